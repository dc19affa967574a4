"""The paired differences as a small graphic: a dot per seed, their mean with its interval, and zero."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optduel.components.report.drawing import MaxNLocator
from optduel.components.results import PairedComparison

WIDTH = 640
_LEFT, _RIGHT = 24, WIDTH - 24
_DOT_TOP, _DOT_BOTTOM = 26, 76
_DOT_SPACING = 10


@dataclass(frozen=True)
class DifferencePlot:
    """Coordinates in an SVG of WIDTH x 138, rounded to tenths.

    Attributes:
        dots: x, y and a label of each seed.
        interval: x of both bounds; None with one seed.
        ticks: x and text of each mark on the axis.
        left, right: what lies on either side of no difference.
        description: the graphic in words.
    """

    dots: list[tuple[float, float, str]]
    mean: float
    interval: tuple[float, float] | None
    zero: float
    ticks: list[tuple[float, str]]
    unit: str
    left: str
    right: str
    description: str


def difference_plots(comparisons: Sequence[PairedComparison]) -> list[DifferencePlot | None]:
    """One graphic for each comparison, all with the same axis, so that they compare with each other.

    None for one that has no seed.
    """
    shown = [0.0]
    for comparison in comparisons:
        shown += [
            *_displayed(comparison, comparison.differences),
            *_displayed(comparison, _bounds(comparison)),
        ]
    # With no spread at all the axis still needs a length.
    margin = 0.06 * (max(shown) - min(shown)) or 1.0
    return [_plot(comparison, min(shown) - margin, max(shown) + margin) for comparison in comparisons]


def _plot(comparison: PairedComparison, start: float, end: float) -> DifferencePlot | None:
    if comparison.mean_difference is None:
        return None

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - start) / (end - start), 1)

    unit = "points" if comparison.metric == "accuracy" else "nats"
    values = _displayed(comparison, comparison.differences)
    bounds = _displayed(comparison, _bounds(comparison))
    (mean,) = _displayed(comparison, [comparison.mean_difference])
    lower, higher = comparison.baseline, comparison.challenger
    if comparison.metric == "cross_entropy":
        lower, higher = higher, lower
    ticks = [tick for tick in MaxNLocator(6).tick_values(start, end) if start <= tick <= end]
    labels = [
        f"seed {seed}: {value:+.3g} {unit}" for seed, value in zip(comparison.seeds, values, strict=True)
    ]
    seeds = ", ".join(f"{value:+.3g}" for value in values)
    interval = f", BCa interval {bounds[0]:+.3g} to {bounds[1]:+.3g}" if bounds else ""
    subject = f"{comparison.challenger} minus {comparison.baseline}"
    return DifferencePlot(
        dots=[(*place, label) for place, label in zip(_stacked([x(v) for v in values]), labels, strict=True)],
        mean=x(mean),
        interval=(x(bounds[0]), x(bounds[1])) if bounds else None,
        zero=x(0),
        ticks=[(x(tick), f"{tick:+.4g}" if abs(tick) > 1e-12 else "0") for tick in ticks],
        unit=f"{subject}, {unit}",
        left=f"{lower} better",
        right=f"{higher} better",
        description=f"{subject} for each seed, in {unit}: {seeds}. Mean {mean:+.3g}{interval}.",
    )


def _bounds(comparison: PairedComparison) -> list[float]:
    """The bounds of the interval; none with one seed."""
    bounds = (comparison.interval_low, comparison.interval_high)
    return [bound for bound in bounds if bound is not None]


def _displayed(comparison: PairedComparison, values: Iterable[float]) -> list[float]:
    """Accuracies in points, cross-entropies in nats."""
    factor = 100 if comparison.metric == "accuracy" else 1
    return [factor * value for value in values]


def _stacked(places: Sequence[float]) -> list[tuple[float, float]]:
    """Dots that would cover one another stand on one another, as closely as their room demands."""
    columns = [round(place / _DOT_SPACING) for place in places]
    tallest = max(Counter(columns).values())
    step = min(_DOT_SPACING, (_DOT_BOTTOM - _DOT_TOP) / max(tallest - 1, 1))
    heights: Counter[int] = Counter()
    dots = []
    for place, column in zip(places, columns, strict=True):
        dots.append((place, round(_DOT_BOTTOM - step * heights[column], 1)))
        heights[column] += 1
    return dots

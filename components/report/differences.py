"""The paired differences as a small graphic: a dot per seed, their mean with its interval, and zero."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optduel.components.report.drawing import MaxNLocator
from optduel.components.report.numbers import ABSENT, significant, whole
from optduel.components.results import OtherImages, PairedComparison

WIDTH = 640
_LEFT, _RIGHT = 24, WIDTH - 24
_DOT_TOP, _DOT_BOTTOM = 26, 76
_DOT_SPACING = 10


@dataclass(frozen=True)
class DifferencePlot:
    """Coordinates in an SVG of WIDTH x 138, rounded to tenths.

    Attributes:
        dots: x, y and a label of each seed.
        interval: x of both bounds; None with too few seeds.
        beyond: the same of the interval for other images of the kind; None where there is none.
        ticks: x and text of each mark on the axis.
        left, right: what lies on either side of no difference.
        description: the graphic in words.
    """

    dots: list[tuple[float, float, str]]
    mean: float
    interval: tuple[float, float] | None
    beyond: tuple[float, float] | None
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
            *_displayed(comparison, _bounds(comparison.other_images)),
        ]
    # With no spread at all the axis still needs a length.
    margin = 0.06 * (max(shown) - min(shown)) or 1.0
    return [_plot(comparison, min(shown) - margin, max(shown) + margin) for comparison in comparisons]


@dataclass(frozen=True)
class ComponentRow:
    """What varies a difference, as standard deviations, and what would show it; in words."""

    name: str
    unit: str
    seed: str
    image: str
    rest: str
    degrees: str
    seeds: str
    images: str


def component_rows(comparisons: Sequence[PairedComparison]) -> list[ComponentRow]:
    """A row for each comparison that has an answer for other images; none where no comparison has."""
    rows = []
    for comparison in comparisons:
        other, needed = comparison.other_images, comparison.needed
        if other is None:
            continue
        rows.append(
            ComponentRow(
                name=f"{comparison.challenger} minus {comparison.baseline}",
                unit=_unit(comparison),
                seed=_deviation(comparison, other.seed_variance),
                image=_deviation(comparison, other.image_variance),
                rest=_deviation(comparison, other.rest_variance),
                degrees=f"{other.degrees_of_freedom:.1f}",
                seeds=whole(needed.seeds) if needed and needed.seeds else ABSENT,
                images=whole(needed.examples) if needed and needed.examples else ABSENT,
            )
        )
    return rows


def _deviation(comparison: PairedComparison, variance: float | None) -> str:
    if variance is None:
        return ABSENT
    return significant(_displayed(comparison, [variance**0.5])[0])


def _unit(comparison: PairedComparison) -> str:
    return "nats" if comparison.metric == "cross_entropy" else "points"


def _plot(comparison: PairedComparison, start: float, end: float) -> DifferencePlot | None:
    if comparison.mean_difference is None:
        return None

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - start) / (end - start), 1)

    unit = _unit(comparison)
    values = _displayed(comparison, comparison.differences)
    bounds, beyond = (_displayed(comparison, _bounds(one)) for one in (comparison, comparison.other_images))
    (mean,) = _displayed(comparison, [comparison.mean_difference])
    lower, higher = comparison.baseline, comparison.challenger
    if comparison.metric == "cross_entropy":
        lower, higher = higher, lower
    ticks = [tick for tick in MaxNLocator(6).tick_values(start, end) if start <= tick <= end]
    labels = [
        f"seed {seed}: {value:+.3g} {unit}" for seed, value in zip(comparison.seeds, values, strict=True)
    ]
    seeds = ", ".join(f"{value:+.3g}" for value in values)
    interval = f", interval {bounds[0]:+.3g} to {bounds[1]:+.3g}" if bounds else ""
    if beyond:
        interval += f", for other images {beyond[0]:+.3g} to {beyond[1]:+.3g}"
    subject = f"{comparison.challenger} minus {comparison.baseline}"
    return DifferencePlot(
        dots=[(*place, label) for place, label in zip(_stacked([x(v) for v in values]), labels, strict=True)],
        mean=x(mean),
        interval=(x(bounds[0]), x(bounds[1])) if bounds else None,
        beyond=(x(beyond[0]), x(beyond[1])) if beyond else None,
        zero=x(0),
        ticks=[(x(tick), f"{tick:+.4g}" if abs(tick) > 1e-12 else "0") for tick in ticks],
        unit=f"{subject}, {unit}",
        left=f"{lower} better",
        right=f"{higher} better",
        description=f"{subject} for each seed, in {unit}: {seeds}. Mean {mean:+.3g}{interval}.",
    )


def _bounds(of: PairedComparison | OtherImages | None) -> list[float]:
    """The bounds of the interval; none with too few seeds."""
    bounds = (of.interval_low, of.interval_high) if of else ()
    return [bound for bound in bounds if bound is not None]


def _displayed(comparison: PairedComparison, values: Iterable[float]) -> list[float]:
    """Cross-entropies in nats, all others in points."""
    factor = 1 if comparison.metric == "cross_entropy" else 100
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

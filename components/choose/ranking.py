"""Which setting of an arm is the best one, and what makes that doubtful."""

from collections.abc import Sequence

from optduel.components.core import ExperimentError
from optduel.components.results import TunedMetric, TunedSetting
from optduel.components.settings import Arm

EDGE = 0.1
"""A value in the outermost tenth of its range lies at an edge: the best may lie beyond it."""

TOP = 10
"""So many of the best settings are looked at for where they lie."""

SEEDS_TO_TELL = 6
"""The fewest paired seeds with which a sign-flip test can fall below 5 %: 2 / 2^6."""


def ranked(arm: str, settings: Sequence[TunedSetting], metric: TunedMetric) -> list[TunedSetting]:
    """The settings, the best first: by the median over seeds of the metric, then of the other one.

    Raises:
        ExperimentError: all of them diverged.
    """
    other: TunedMetric = "accuracy" if metric == "cross_entropy" else "cross_entropy"
    in_order = sorted(settings, key=lambda one: (_badness(one, metric), _badness(one, other), one.number))
    if in_order[0].median(metric) is None:
        raise ExperimentError(
            f"arms.{arm}.search: all {len(in_order)} settings diverged, so there is none to choose; search "
            "lower learning rates"
        )
    return in_order


def _badness(setting: TunedSetting, metric: TunedMetric) -> float:
    """Smaller is better."""
    median = setting.median(metric)
    if median is None:
        return float("inf")
    return median if metric == "cross_entropy" else -median


def doubts(arm: Arm, settings: Sequence[TunedSetting], metric: TunedMetric) -> list[str]:
    """Why the first of `settings`, the best, may not be: at an edge, or not told apart from the next."""
    return [*_edges(arm, settings, metric), *_ties(arm, settings, metric)]


def _edges(arm: Arm, settings: Sequence[TunedSetting], metric: TunedMetric) -> list[str]:
    best, found = settings[0], []
    top = [one for one in settings[:TOP] if one.median(metric) is not None]
    for path, range_ in sorted(arm.search.items()):
        places = [range_.place(one.values[path]) for one in top]
        low, high = range_.ends
        for side, end, is_there in (
            ("low", low, [place <= EDGE for place in places]),
            ("high", high, [place >= 1 - EDGE for place in places]),
        ):
            if is_there[0] and end != 0:  # nothing is below 0
                found.append(
                    f"{arm.name}: the best setting lies at the {side} edge of {path}, "
                    f"{best.values[path]:.3g} of {low:g} to {high:g}, with {sum(is_there)} of the {len(top)} "
                    "best; a better one may lie beyond it, so widen the range."
                )
    return found


def _ties(arm: Arm, settings: Sequence[TunedSetting], metric: TunedMetric) -> list[str]:
    if len(settings) < 2 or settings[1].median(metric) is None:
        return []
    best, following = settings[:2]
    sign = -1 if metric == "cross_entropy" else 1
    ahead = 0
    for one, other in zip(best.trials, following.trials, strict=True):
        mine, its = one.score(metric), other.score(metric)
        ahead += mine is not None and (its is None or sign * mine > sign * its)
    seeds = len(best.trials)
    if seeds >= SEEDS_TO_TELL and ahead == seeds:
        return []
    return [
        f"{arm.name}: setting {best.number} is not told apart from the next, {following.number}: it is ahead "
        f"on {ahead} of {seeds} tuning seed{'' if seeds == 1 else 's'}, and at least {SEEDS_TO_TELL} of "
        f"{SEEDS_TO_TELL} would be needed."
    ]

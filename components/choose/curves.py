"""Tuning curves: the best validation score that a search finds, as a function of how many settings it tries.

Curves and bands are those of Lourie, Cho and He, Show Your Work with Confidence, 2024 (arXiv 2311.09480), by
their library opda. The bands hold for settings that were drawn independently.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from optduel.components.results import CurvePoint, TunedMetric, TunedSetting

INDEPENDENT = "random"
"""The sampler for which the bands hold."""


def tuning_curve(
    settings: Sequence[TunedSetting], metric: TunedMetric, sampler: str, confidence: float
) -> tuple[CurvePoint, ...]:
    """The median of the best of 1, 2, ... settings, with a simultaneous band.

    Args:
        settings: of one arm; one that diverged counts as the worst score there is.
        sampler: that drew them; without a band unless it is `INDEPENDENT`.
        confidence: of the band.
    """
    import opda.nonparametric

    is_loss = metric == "cross_entropy"
    worst = np.inf if is_loss else 0.0
    scores = np.array([worst if (m := one.median(metric)) is None else m for one in settings], np.float64)
    support = (0.0, np.inf) if is_loss else (0.0, 1.0)
    budgets = np.arange(1, len(scores) + 1)
    point = opda.nonparametric.EmpiricalDistribution(scores, a=support[0], b=support[1])
    values = point.quantile_tuning_curve(budgets, q=0.5, minimize=is_loss)
    if sampler != INDEPENDENT:
        nothing: list[float | None] = [None] * len(budgets)
        return _points(budgets, values, nothing, nothing)
    # By the inequality of Dvoretzky, Kiefer and Wolfowitz, which holds for equal scores, too. Those methods
    # of opda that give narrower bands take a minute for 200 settings.
    below, _, above = opda.nonparametric.EmpiricalDistribution.confidence_bands(
        scores, confidence, *support, method="dkw"
    )
    # The lower band of the distribution function has the larger scores.
    ends = [band.quantile_tuning_curve(budgets, q=0.5, minimize=is_loss) for band in (above, below)]
    return _points(budgets, values, *([_finite(end) for end in ends_] for ends_ in ends))


def _points(
    budgets: NDArray[np.int64],
    values: NDArray[np.float64],
    low: Sequence[float | None],
    high: Sequence[float | None],
) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(trials=int(trials), value=float(value), low=bottom, high=top)
        for trials, value, bottom, top in zip(budgets, values, low, high, strict=True)
        if np.isfinite(value)
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def lead(curves: Mapping[str, Sequence[CurvePoint]], metric: TunedMetric, confidence: float) -> str:
    """From which budget on one arm is ahead of all others, in words."""
    sign = -1 if metric == "cross_entropy" else 1
    budgets = [{point.trials: point for point in curve} for curve in curves.values()]
    common = sorted(set.intersection(*map(set, budgets)))
    if not common:
        return "The arms' curves have no budget in common."
    leaders = []
    for trials in common:
        values = {arm: sign * points[trials].value for arm, points in zip(curves, budgets, strict=True)}
        best = max(values, key=values.__getitem__)
        is_alone = sum(value == values[best] for value in values.values()) == 1
        leaders.append(best if is_alone else None)
    last = leaders[-1]
    if last is None:
        return f"With {common[-1]} settings no arm leads on validation."
    start = next(i for i in range(len(leaders)) if set(leaders[i:]) == {last})
    apart = [
        trials
        for trials in common
        if _is_apart(last, {arm: p[trials] for arm, p in zip(curves, budgets, strict=True)}, sign)
    ]
    told = (
        f"the {100 * confidence:g} % bands are apart from {apart[0]} settings on"
        if apart and apart == common[common.index(apart[0]) :]
        else "the bands overlap, so this may be chance"
        if any(point.low is not None for point in next(iter(curves.values())))
        else "no band holds for settings that were not drawn independently"
    )
    settings = "1 setting" if common[start] == 1 else f"{common[start]} settings"
    return f"On validation {last} leads from {settings} on; {told}."


def _is_apart(leader: str, points: Mapping[str, CurvePoint], sign: int) -> bool:
    mine = points[leader]
    bottom = mine.low if sign > 0 else mine.high
    for arm, point in points.items():
        top = point.high if sign > 0 else point.low
        if arm != leader and (bottom is None or top is None or sign * bottom <= sign * top):
            return False
    return True

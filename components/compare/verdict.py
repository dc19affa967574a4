"""The verdict on two arms: is the difference real, which arm is better, and that in one sentence."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optduel.components.compare.inference import bca_interval, smallest_p_value
from optduel.components.compare.wording import (
    Metric,
    count,
    differences_in_words,
    metric_in_words,
    p_in_words,
    percent,
    signed,
    significance_level,
)
from optduel.components.results import Answer, PairedComparison
from optduel.components.settings import Study, seeds_needed

LOWER_IS_BETTER: dict[Metric, bool] = {"accuracy": False, "cross_entropy": True}


def judge(
    baseline: str,
    challenger: str,
    study: Study,
    split: Literal["test", "validation"],
    seeds: tuple[int, ...],
    differences: NDArray[np.float64],
    p_value: float | None,
    comparisons: int,
    are_the_same: bool,
    diverged: Mapping[str, int],
) -> PairedComparison:
    """The verdict on paired differences.

    Args:
        seeds: that are compared; there may be none.
        differences: float64 [seeds], challenger minus baseline.
        p_value: of the sign-flip test, corrected for the number of comparisons; None with one seed or none.
        comparisons: how many challengers the baseline has.
        are_the_same: whether all that was measured of the two arms is equal; a coarse metric alone may be.
        diverged: on how many seeds of the study each of the two arms did.
    """
    interval = bca_interval(differences, study.confidence)
    low, high = interval if interval else (None, None)
    gains = -differences if LOWER_IS_BETTER[study.metric] else differences
    answer = "no difference" if are_the_same else _answer(p_value, interval, study.confidence)
    better = (challenger if gains.mean() > 0 else baseline) if answer == "shown" else None
    if better and diverged[better]:
        answer, better = "not shown", None
    comparison = PairedComparison(
        baseline=baseline,
        challenger=challenger,
        metric=study.metric,
        confidence=study.confidence,
        seeds=seeds,
        differences=tuple(differences.tolist()),
        median_difference=float(np.median(differences)) if seeds else None,
        mean_difference=float(differences.mean()) if seeds else None,
        interval_low=low,
        interval_high=high,
        p_value=p_value,
        smallest_p_value=smallest_p_value(len(differences), comparisons) if len(differences) > 1 else None,
        probability_challenger_better=float(np.mean((gains > 0) + (gains == 0) / 2)) if seeds else None,
        answer=answer,
        better=better,
        sentence="",
    )
    # Written from the very numbers that the comparison carries.
    sentence = _sentence(comparison, split, comparisons)
    left_out = _left_out(diverged, len(study.seeds))
    return comparison.model_copy(update={"sentence": f"{sentence}{left_out}"})


def _left_out(diverged: Mapping[str, int], seeds: int) -> str:
    told = [
        f"{arm} diverged on {number} of {count(seeds, 'seed')}" for arm, number in diverged.items() if number
    ]
    if not told:
        return ""
    return f" Left out: {', '.join(told)}; an arm that diverged is not called better."


def _answer(
    p_value: float | None,
    interval: tuple[float, float] | None,
    confidence: float,
) -> Answer:
    if p_value is None or interval is None:
        return "not shown"
    low, high = interval
    return "shown" if p_value < significance_level(confidence) and (low > 0 or high < 0) else "not shown"


def _sentence(comparison: PairedComparison, split: str, comparisons: int) -> str:
    baseline, challenger = comparison.baseline, comparison.challenger
    metric = metric_in_words(comparison.metric, split)
    seeds = len(comparison.seeds)
    needed = seeds_needed(comparison.confidence, comparisons)
    if comparison.mean_difference is None:
        return (
            f"Not shown: {baseline} and {challenger} finished together on no seed, nothing can be compared."
        )
    if comparison.answer == "no difference":
        every = "the one seed" if seeds == 1 else f"each of the {seeds} seeds"
        return (
            f"No difference: {challenger} and {baseline} have exactly the same {split} accuracy and "
            f"cross-entropy on {every}."
        )
    if comparison.better:
        worse = baseline if comparison.better == challenger else challenger
        return f"{comparison.better} is better than {worse}: {_evidence(comparison, metric, comparisons)}."
    if seeds >= needed:
        return f"Not shown: {challenger} minus {baseline} is {_evidence(comparison, metric, comparisons)}."
    (mean,), unit = differences_in_words(comparison.metric, [comparison.mean_difference])
    smallest = comparison.smallest_p_value
    reach = f" (their smallest possible p is {smallest:.2g})" if smallest else ""
    return (
        f"Not shown: {count(seeds, 'seed')} can never show a difference at {percent(comparison.confidence)}"
        f"{reach}, at least {needed} are needed. {challenger} minus {baseline} is {signed(mean)} {unit} of "
        f"{metric}, {_won(comparison, challenger)}."
    )


def _evidence(comparison: PairedComparison, metric: str, comparisons: int) -> str:
    """Difference, interval, p and seeds won, seen from the better arm, or the challenger if neither is."""
    favoured = comparison.better or comparison.challenger
    bounds = [comparison.mean_difference or 0, comparison.interval_low or 0, comparison.interval_high or 0]
    if favoured == comparison.baseline:
        mean, low, high = bounds
        bounds = [-mean, -high, -low]
    (mean_text, low_text, high_text), unit = differences_in_words(comparison.metric, bounds)
    # Its level is left out: it is nominal, and the interval covers less often than it says.
    interval = f"BCa interval {low_text} to {high_text}"
    p_value = p_in_words(comparison.p_value or 0, comparison.confidence)
    test = f"{'Holm-corrected ' if comparisons > 1 else ''}sign-flip p = {p_value}"
    return f"{signed(mean_text)} {unit} of {metric} ({interval}, {test}, {_won(comparison, favoured)})"


def _won(comparison: PairedComparison, arm: str) -> str:
    """On how many seeds the arm is strictly better than the other one."""
    sign = 1 if (arm == comparison.challenger) != LOWER_IS_BETTER[comparison.metric] else -1
    wins = sum(sign * difference > 0 for difference in comparison.differences)
    return f"{arm} better on {wins} of {count(len(comparison.seeds), 'seed')}"

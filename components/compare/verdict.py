"""The verdict on two arms: is the difference real, which arm is better, and that in one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optduel.components.compare.crossed import Estimate, Variances
from optduel.components.compare.inference import SignFlips, smallest_p_value
from optduel.components.compare.planning import (
    MOST_SEEDS,
    POWER,
    images_to_show,
    nominal_levels,
    seeds_to_show,
)
from optduel.components.compare.wording import (
    count,
    differences_in_words,
    metric_in_words,
    p_in_words,
    percent,
    signed,
    significance_level,
    whole,
)
from optduel.components.results import Answer, Needed, OtherImages, PairedComparison
from optduel.components.settings import Metric, Study, seeds_needed

LOWER_IS_BETTER: dict[Metric, bool] = {
    "accuracy": False,
    "balanced_accuracy": False,
    "macro_f1": False,
    "area_under_roc": False,
    "cross_entropy": True,
}


@dataclass(frozen=True)
class Evidence:
    """What was measured of a challenger, against the baseline.

    Attributes:
        seeds: whose differences these are, in the order of `differences`.
        looks: numbers of seeds at which there was a verdict; the last one has all.
        differences: float64 [seeds], challenger minus baseline.
        flips: of them; None with one seed.
        estimate: of the difference on other images; None where there is too little to tell.
        level: at which this look asks whether that is zero.
        variances: of seeds and images; None without estimate, and where seeds draw their own splits.
        examples: images that were measured.
        are_the_same: whether all that was measured of the two arms is equal; a coarse metric alone may be.
    """

    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    differences: NDArray[np.float64]
    flips: SignFlips | None
    estimate: Estimate | None
    level: float
    variances: Variances | None
    examples: int
    are_the_same: bool


def judge(
    baseline: str,
    challenger: str,
    study: Study,
    split: Literal["test", "validation"],
    evidence: Evidence,
    p_value: float | None,
    p_of_images: float | None,
    comparisons: int,
    diverged: Mapping[str, int],
) -> PairedComparison:
    """The verdict on paired differences.

    Args:
        p_value: of the sign-flip test, corrected for the number of comparisons; None with one seed.
        p_of_images: of the estimate for other images, corrected, too; None without one.
        comparisons: how many challengers the baseline has.
        diverged: on how many seeds of the study each of the two arms did.
    """
    differences, level = evidence.differences, significance_level(study.confidence)
    interval = evidence.flips.interval(level) if evidence.flips else None
    low, high = interval if interval else (None, None)
    gains = -differences if LOWER_IS_BETTER[study.metric] else differences
    answer: Answer = "shown" if p_value is not None and p_value < level else "not shown"
    if evidence.are_the_same:
        answer = "no difference"
    better = (challenger if gains.mean() > 0 else baseline) if answer == "shown" else None
    if better and diverged[better]:
        answer, better = "not shown", None
    other = _other_images(evidence, answer, p_of_images, level)
    comparison = PairedComparison(
        baseline=baseline,
        challenger=challenger,
        metric=study.metric,
        confidence=study.confidence,
        seeds=evidence.seeds,
        looks=evidence.looks,
        differences=tuple(differences.tolist()),
        median_difference=float(np.median(differences)) if evidence.seeds else None,
        mean_difference=float(differences.mean()) if evidence.seeds else None,
        interval_low=low,
        interval_high=high,
        p_value=p_value,
        smallest_p_value=smallest_p_value(evidence.looks, comparisons) if evidence.flips else None,
        probability_challenger_better=float(np.mean((gains > 0) + (gains == 0) / 2))
        if evidence.seeds
        else None,
        answer=answer,
        better=better,
        other_images=other,
        # More seeds do not make an arm finish.
        needed=None if any(diverged.values()) else _needed(evidence, answer, other, level / comparisons),
        sentence="",
    )
    # Written from the very numbers that the comparison carries.
    sentence = _sentence(comparison, f"{split} images", split, comparisons)
    left_out = _left_out(diverged, len(study.seeds))
    return comparison.model_copy(update={"sentence": f"{sentence}{left_out}"})


def _left_out(diverged: Mapping[str, int], seeds: int) -> str:
    told = [
        f"{arm} diverged on {number} of {count(seeds, 'seed')}" for arm, number in diverged.items() if number
    ]
    if not told:
        return ""
    return f" Left out: {', '.join(told)}; an arm that diverged is not called better."


def _other_images(
    evidence: Evidence, answer: Answer, p_value: float | None, level: float
) -> OtherImages | None:
    if evidence.estimate is None or p_value is None:
        return None
    low, high = evidence.estimate.interval(evidence.level)
    variances = evidence.variances
    return OtherImages(
        interval_low=low,
        interval_high=high,
        p_value=p_value,
        degrees_of_freedom=evidence.estimate.degrees,
        examples=evidence.examples,
        seed_variance=variances.seeds if variances else None,
        image_variance=variances.images if variances else None,
        rest_variance=variances.rest if variances else None,
        answer="not shown" if answer == "shown" and p_value >= level else answer,
    )


def _needed(evidence: Evidence, answer: Answer, other: OtherImages | None, level: float) -> Needed | None:
    if evidence.flips is None or "not shown" not in (answer, other.answer if other else ""):
        return None
    seeds: int | None = len(evidence.differences)
    if answer == "not shown":
        seeds = seeds_to_show(evidence.differences, evidence.looks, level)
    examples = None
    if evidence.variances and seeds:
        mean = float(evidence.differences.mean())
        looked = (
            evidence.level
            if seeds == len(evidence.seeds)
            else nominal_levels(evidence.looks[0], level)[seeds]
        )
        examples = images_to_show(mean, evidence.variances, seeds, evidence.examples, looked)
    return Needed(power=POWER, seeds=seeds, examples=examples)


def _sentence(comparison: PairedComparison, images: str, split: str, comparisons: int) -> str:
    baseline, challenger = comparison.baseline, comparison.challenger
    metric = metric_in_words(comparison.metric, split)
    seeds = len(comparison.seeds)
    smallest = comparison.smallest_p_value
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
        return (
            f"{comparison.better} is better than {worse} on these {images}: "
            f"{_evidence(comparison, metric, comparisons)}{_beyond(comparison)}."
        )
    if smallest is not None and smallest < significance_level(comparison.confidence):
        return (
            f"Not shown: {challenger} minus {baseline} is {_evidence(comparison, metric, comparisons)} on "
            f"these {images}{_beyond(comparison)}."
        )
    (mean,), unit = differences_in_words(comparison.metric, [comparison.mean_difference])
    reach = f" (their smallest possible p is {smallest:.2g})" if smallest else ""
    return (
        f"Not shown: {count(seeds, 'seed')} can never show a difference at {percent(comparison.confidence)}"
        f"{reach}, at least {seeds_needed(comparison.confidence, comparisons)} are needed. {challenger} "
        f"minus {baseline} is {signed(mean)} {unit} of {metric}, {_won(comparison, challenger)}."
    )


def _evidence(comparison: PairedComparison, metric: str, comparisons: int) -> str:
    """Difference, interval, p and seeds won, seen from the better arm, or the challenger if neither is."""
    favoured = comparison.better or comparison.challenger
    bounds = [comparison.mean_difference or 0, comparison.interval_low or 0, comparison.interval_high or 0]
    bounds = _seen_from(favoured, comparison, bounds)
    (mean, low, high), unit = differences_in_words(comparison.metric, bounds)
    p_value = p_in_words(comparison.p_value or 0, comparison.confidence)
    interval, test = f"{percent(comparison.confidence)} interval", "sign-flip p"
    if comparisons > 1:  # then the interval may exclude 0 though the corrected p shows nothing
        interval, test = f"{interval} of this pair alone", f"Holm-corrected {test}"
    return (
        f"{signed(mean)} {unit} of {metric} ({interval} {low} to {high}, "
        f"{test} = {p_value}, {_won(comparison, favoured)})"
    )


def _seen_from(favoured: str, comparison: PairedComparison, bounds: list[float]) -> list[float]:
    """Mean, low and high of the favoured arm minus the other one."""
    mean, low, high = bounds
    return [-mean, -high, -low] if favoured == comparison.baseline else bounds


def _beyond(comparison: PairedComparison) -> str:
    """What holds for other images, and what would show more."""
    other, needed = comparison.other_images, comparison.needed
    if other is None:
        return ""
    favoured = comparison.better or comparison.challenger
    bounds = _seen_from(
        favoured, comparison, [comparison.mean_difference or 0, other.interval_low, other.interval_high]
    )
    (_, low, high), _ = differences_in_words(comparison.metric, bounds)
    interval = f"({percent(comparison.confidence)} interval {low} to {high})"
    if comparison.answer == "not shown":
        return f", nor on images of this kind {interval}{_more_seeds(needed)}"
    if other.answer == "shown":
        return f"; and on images of this kind {interval}"
    return f"; not shown on images of this kind {interval}{_more_images(needed)}"


def _more_seeds(needed: Needed | None) -> str:
    if needed is None:
        return ""
    if needed.seeds is None:
        return f". Not even {MOST_SEEDS} seeds would show a difference of this size"
    found = f". {needed.seeds} seeds would show a difference of this size with {percent(needed.power)} chance"
    if needed.examples is None:
        return found
    return f"{found}; on images of this kind that takes {whole(needed.examples)} test images as well"


def _more_images(needed: Needed | None) -> str:
    if needed is None or needed.examples is None:
        return ""
    return (
        f", where {whole(needed.examples)} images would show a difference of this size with "
        f"{percent(needed.power)} chance"
    )


def _won(comparison: PairedComparison, arm: str) -> str:
    """On how many seeds the arm is strictly better than the other one."""
    sign = 1 if (arm == comparison.challenger) != LOWER_IS_BETTER[comparison.metric] else -1
    wins = sum(sign * difference > 0 for difference in comparison.differences)
    return f"{arm} better on {wins} of {count(len(comparison.seeds), 'seed')}"

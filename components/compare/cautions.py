"""What a reader must know before believing the numbers of a comparison."""

from collections.abc import Iterable

from optduel.components.compare.inference import smallest_p_value
from optduel.components.compare.wording import count, percent
from optduel.components.results import Evaluation
from optduel.components.settings import Study, seeds_needed

WIDE_HALF_INTERVAL = 0.02
"""A split is called small when it leaves an accuracy uncertain by more than 2 points, which two well-tuned
optimizers seldom differ by."""


def cautions(study: Study, comparisons: int, evaluations: Iterable[Evaluation]) -> tuple[str, ...]:
    """One sentence for each reason to doubt; none when there is none.

    Args:
        comparisons: how many challengers the first arm has.
        evaluations: of all trials, on one split.
    """
    found = []
    seeds = len(study.seeds)
    needed = seeds_needed(study.confidence, comparisons)
    level = percent(study.confidence)
    if seeds == 1:
        found.append(
            "One seed: what the optimizer does and what chance does (initial weights, data order) cannot be "
            f"told apart; give the study at least {needed} seeds."
        )
    elif seeds < needed:
        found.append(
            f"{seeds} seeds can never show a difference at {level}: the smallest p that they can reach is "
            f"{smallest_p_value(seeds, comparisons):.2g}; give the study at least {needed}."
        )
    widest = max(evaluations, key=lambda evaluation: evaluation.accuracy.high - evaluation.accuracy.low)
    if widest.split == "validation":
        found.append(
            "The metrics are taken on the validation split, because the data set has no test split: wherever "
            "a setting was chosen by looking at it, the numbers are too good."
        )
    half_width = (widest.accuracy.high - widest.accuracy.low) / 2
    if half_width > WIDE_HALF_INTERVAL:
        found.append(
            f"The {widest.split} split has only {count(widest.examples, 'image')}: for other images of the "
            f"same kind an accuracy measured on it is uncertain by up to {100 * half_width:.1f} points "
            f"({level}). The seeds vary initial weights and data order, not the images."
        )
    return tuple(found)

"""The gate's criteria: each a finding with its numbers, passed or not."""

from collections.abc import Sequence

from optduel.components.champions import Candidate, Criterion
from optduel.components.gate.paired import (
    DIFFERENCES,
    Outcomes,
    accuracy_difference,
    mcnemar_p_value,
    recall_changes,
)
from optduel.components.results import Interval
from optduel.components.settings import Gate

_NAMES = {"accuracy": "accuracy", "cross_entropy": "cross-entropy", "macro_f1": "macro F1"}


def enough_images(judged: int, gate: Gate) -> Criterion:
    """Whether there are as many images to judge by as the gate asks for."""
    return Criterion(
        name="images",
        passed=judged >= gate.smallest_test,
        measured=judged,
        limit=gate.smallest_test,
        sentence=f"{judged} test images are left to judge by; at least {gate.smallest_test} are asked for",
    )


def the_rule(outcomes: Outcomes, gate: Gate) -> Criterion:
    """The declared rule: not worse by the margin, or better."""
    difference = DIFFERENCES[gate.metric](outcomes, gate.confidence)
    is_loss = gate.metric == "cross_entropy"
    gain = Interval(value=-difference.value, low=-difference.high, high=-difference.low)
    gain = gain if is_loss else difference
    p_value = _p_value(outcomes) if gate.metric == "accuracy" else None
    if gate.rule == "non_inferior":
        passed, limit = gain.low > -gate.margin, (gate.margin if is_loss else -gate.margin)
        asked = f"worse by {_amount(gate.margin, gate)} or more has to be excluded"
    else:
        # The test, where there is an exact one; an interval that excludes 0 says the same of the others.
        passed = gain.value > 0 and (p_value < 1 - gate.confidence if p_value is not None else gain.low > 0)
        limit, asked = 0.0, "better has to be shown"
    tested = "" if p_value is None else f", exact McNemar p = {p_value:.2g}"
    return Criterion(
        name=_NAMES[gate.metric],
        passed=passed,
        measured=difference,
        limit=limit,
        p_value=p_value,
        sentence=(
            f"candidate minus champion: {_signed(difference.value, gate)} of {_NAMES[gate.metric]} "
            f"({100 * gate.confidence:.3g} % interval {_signed(difference.low, gate)} to "
            f"{_signed(difference.high, gate)}{tested}); {asked}"
        ),
    )


def class_floors(outcomes: Outcomes, classes: Sequence[str], gate: Gate) -> list[Criterion]:
    """No class may lose more of its recall than the floor allows, beyond noise.

    Noise is judged by the exact McNemar test of the class's images, Bonferroni-corrected for the number of
    classes: that any class is refused by chance then has a probability below 1 - confidence.
    """
    floor = gate.class_floor
    if floor is None:
        return []
    changes = recall_changes(outcomes)
    criteria = []
    for label, (images, won, lost) in changes.items():
        recall = accuracy_difference(won, lost, images, gate.confidence)
        p_value = min(1.0, mcnemar_p_value(won, lost) * len(changes))
        criteria.append(
            Criterion(
                name=f"class {classes[label]}",
                passed=not (recall.value < -floor and p_value < 1 - gate.confidence),
                measured=recall,
                limit=-floor,
                p_value=p_value,
                sentence=(
                    f"recall of {classes[label]} changed by {100 * recall.value:+.1f} points on {images} "
                    f"images (exact McNemar p = {p_value:.2g}, corrected for {len(changes)} classes); a loss "
                    f"of more than {100 * floor:.3g} points beyond noise is refused"
                ),
            )
        )
    return criteria


def calibration(candidate: Candidate, gate: Gate) -> list[Criterion]:
    """The limit of the calibration error, where the gate has one."""
    limit = gate.calibration_limit
    if limit is None:
        return []
    found = candidate.calibration_error
    return [
        Criterion(
            name="calibration",
            passed=found <= limit,
            measured=found,
            limit=limit,
            sentence=(
                f"expected calibration error {found:.3g} on {candidate.examples} images; at most {limit:.3g}"
            ),
        )
    ]


def class_sets(new: Sequence[str], gone: Sequence[str], gate: Gate) -> list[Criterion]:
    """New and gone classes are a decision of a person's."""
    return [
        Criterion(
            name=name,
            passed=answer == "accept",
            measured=len(classes),
            limit=0,
            sentence=f"{', '.join(classes)} {what}; gate.{field} says {answer}",
        )
        for name, classes, what, field, answer in (
            ("new classes", new, "are unknown to the champion", "new_classes", gate.new_classes),
            (
                "gone classes",
                gone,
                "known to the champion, and without images now",
                "gone_classes",
                gate.gone_classes,
            ),
        )
        if classes
    ]


def _p_value(outcomes: Outcomes) -> float:
    changes = recall_changes(outcomes).values()
    return mcnemar_p_value(sum(won for _, won, _ in changes), sum(lost for _, _, lost in changes))


def _amount(value: float, gate: Gate) -> str:
    return f"{value:.3g} nat" if gate.metric == "cross_entropy" else f"{100 * value:.3g} points"


def _signed(value: float, gate: Gate) -> str:
    return f"{value:+.4f} nat" if gate.metric == "cross_entropy" else f"{100 * value:+.2f} points"

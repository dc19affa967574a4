"""The gate's judgement: what it is made of, and what it refuses."""

import numpy as np
import pytest

from optduel.components.champions import Candidate, Measured
from optduel.components.core import DataError
from optduel.components.gate.judging import judge, pair_outcomes
from optduel.components.records import Records
from optduel.components.results import Predictions
from optduel.components.settings import Retraining
from tests.champions.conftest import candidate_of


def predictions(
    classes: tuple[str, ...], labels: list[int], right: list[bool], sha256: str = "a" * 64, start: int = 0
) -> Predictions:
    """A model that is sure of each image, right or wrong."""
    predicted = [
        label if is_right else (label + 1) % len(classes)
        for label, is_right in zip(labels, right, strict=True)
    ]
    probabilities = np.full((len(labels), len(classes)), 0.1 / (len(classes) - 1))
    probabilities[np.arange(len(labels)), predicted] = 0.9
    return Predictions(
        arm="adamw",
        seed=0,
        split="test",
        model_sha256=sha256,
        classes=classes,
        examples=tuple(f"{number:032d}" for number in range(start, start + len(labels))),
        labels=np.array(labels, dtype=np.int64),
        probabilities=probabilities,
    )


@pytest.fixture
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return candidate_of(str(tmp_path_factory.mktemp("root")), "run-2", b"2")


def judged(
    candidate: Candidate, records: Records, classes: tuple[str, ...], measured: Measured, **gate: object
) -> dict[str, bool]:
    manifest = records.manifest.model_copy(update={"classes": classes})
    labels = [number % 2 for number in range(200)]
    today = predictions(classes, labels, [True] * 200)
    champion = None
    if measured.number is not None and measured.judged_images:
        known = predictions(
            measured.classes, labels[: measured.judged_images], [True] * measured.judged_images
        )
        champion = known
    retraining = Retraining.model_validate({"champion": "weekly", "gate": {"margin": 0.05, **gate}})
    judgement = judge(retraining, "run-2", candidate, manifest, today, measured, champion)
    assert judgement.passed == all(one.passed for one in judgement.criteria)
    return {one.name: one.passed for one in judgement.criteria}


CLASSES = ("rose", "tulip")


def measured_with(classes: tuple[str, ...] = CLASSES, judged_images: int = 150) -> Measured:
    return Measured(
        number=1,
        model_sha256="b" * 64,
        run="run-1",
        classes=classes,
        test_images=200,
        seen_images=50,
        judged_images=judged_images,
    )


def test_every_criterion_is_told(candidate: Candidate, records: Records) -> None:
    found = judged(candidate, records, CLASSES, measured_with(), calibration_limit=0.1)
    assert found == {
        "images": True,
        "accuracy": True,
        "calibration": True,
        "class rose": True,
        "class tulip": True,
    }
    assert (
        judged(candidate, records, CLASSES, measured_with(), calibration_limit=0.01)["calibration"] is False
    )


def test_too_few_images_are_refused(candidate: Candidate, records: Records) -> None:
    assert judged(candidate, records, CLASSES, measured_with(judged_images=99))["images"] is False
    found = judged(candidate, records, CLASSES, measured_with(judged_images=0))
    assert found == {"images": False}
    first = Measured(number=None, test_images=200, judged_images=200)
    assert judged(candidate, records, CLASSES, first) == {"images": True}
    assert judged(candidate, records, CLASSES, first, smallest_test=300) == {"images": False}


def test_new_and_gone_classes_are_a_decision(candidate: Candidate, records: Records) -> None:
    champion = measured_with(("rose", "tulip", "lily"))
    found = judged(candidate, records, ("rose", "tulip", "daisy"), champion)
    assert (found["new classes"], found["gone classes"]) == (False, False)
    found = judged(
        candidate, records, ("rose", "tulip", "daisy"), champion, new_classes="accept", gone_classes="accept"
    )
    assert all(found.values())


def test_pairs_are_by_image_and_classes_by_name() -> None:
    today = predictions(("daisy", "rose", "tulip"), [1, 2, 1, 2], [True, True, False, True])
    champion = predictions(("tulip", "lily", "rose"), [2, 0], [False, True], start=2)
    outcomes = pair_outcomes(today, champion)
    assert outcomes.labels.tolist() == [1, 2]
    assert outcomes.candidate.tolist() == [2, 2]
    assert outcomes.champion.tolist() == [2, 2], "tulip, in the candidate's order"
    assert outcomes.candidate_losses == pytest.approx(-np.log([0.05, 0.9]))
    assert outcomes.champion_losses == pytest.approx(-np.log([0.05, 0.9]))


def test_predictions_of_other_images_are_refused() -> None:
    today = predictions(CLASSES, [0, 1], [True, True])
    with pytest.raises(DataError, match="1 of the champion's 2 images are none of the candidate's"):
        pair_outcomes(today, predictions(CLASSES, [1, 0], [True, True], start=1))
    with pytest.raises(DataError, match="disagree on labels"):
        pair_outcomes(today, predictions(CLASSES, [1, 1], [True, True]))

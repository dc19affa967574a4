from pathlib import Path
from typing import Any

import pytest

from optduel.components.core import DataError, StorageError
from optduel.components.results import (
    ArmSummary,
    CalibrationBin,
    ClassMetrics,
    Comparison,
    Evaluation,
    Interval,
    PairedComparison,
    Row,
    TrainingRecord,
    Trial,
    Trials,
    environment,
    read_document,
    write_document,
)


def trial(arm: str, seed: int) -> Trial:
    return Trial(
        training=TrainingRecord(
            arm=arm,
            seed=seed,
            fingerprint="f" * 64,
            data_fingerprint="d" * 64,
            model_sha256="e" * 64,
            parameters=563_781,
            precision="float32",
            workers=2,
            replicas=2,
            started="2026-11-23T00:00:00+00:00",
            seconds=1 / 3,
            environment=environment(),
        ),
        history=(
            Row(
                event="epoch",
                split="train",
                step=1,
                epoch=1,
                examples=3,
                cross_entropy=0.1 + 0.2,
                penalty=0.0,
                total=0.1 + 0.2,
                accuracy=2 / 3,
                learning_rate=1e-3,
                decay=0.0,
                gradient_norm=1.0,
                weight_norm=1.0,
                examples_per_second=1.0,
                wall_seconds=1.0,
            ),
        ),
        model="s3://bucket/models/model.keras",
        evaluation=Evaluation(
            arm=arm,
            seed=seed,
            split="test",
            examples=3,
            accuracy=Interval(value=2 / 3, low=0.2, high=0.9),
            cross_entropy=Interval(value=0.5, low=0.25, high=0.75),
            macro_f1=0.5,
            macro_area_under_roc=None,
            classes=(
                ClassMetrics(
                    name="Gänseblümchen <b>",
                    examples=3,
                    precision=1.0,
                    recall=Interval(value=2 / 3, low=0.2, high=0.9),
                    f1=0.8,
                    area_under_roc=None,
                    roc=((0.0, 0.0, 1.0), (1.0, 1.0, 0.0)),
                ),
            ),
            confusion=((2, 1), (0, 0)),
            calibration=(CalibrationBin(low=0.9, high=1.0, examples=3, confidence=0.95, accuracy=2 / 3),),
            expected_calibration_error=0.28,
            model_sha256="e" * 64,
        ),
    )


TRIALS = Trials(trials=(trial("sgd-l2", 0), trial("sgd-l2", 1), trial("adamw", 0)))

COMPARISON = Comparison(
    split="validation",
    arms=(
        ArmSummary(
            arm="sgd-l2",
            seeds=(0,),
            accuracy=(0.5,),
            cross_entropy=(1.0,),
            scores=(0.5,),
            median_accuracy=0.5,
            median_cross_entropy=1.0,
            median_score=0.5,
        ),
    ),
    comparisons=(
        PairedComparison(
            baseline="sgd-l2",
            challenger="adamw",
            metric="accuracy",
            confidence=0.95,
            seeds=(0,),
            looks=(1,),
            differences=(0.1,),
            median_difference=0.1,
            mean_difference=0.1,
            interval_low=None,
            interval_high=None,
            p_value=None,
            smallest_p_value=None,
            probability_challenger_better=1.0,
            answer="not shown",
            better=None,
            other_images=None,
            needed=None,
            sentence="Not shown.",
        ),
    ),
    cautions=("One seed.",),
)

DOCUMENTS: list[Any] = [TRIALS, TRIALS.trials[0].training, TRIALS.trials[0].evaluation, COMPARISON]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_a_document_is_read_back_as_it_was_written(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "new" / "document.json"
    write_document(path, document)
    assert read_document(path, type(document)) == document
    assert [file.name for file in path.parent.iterdir()] == ["document.json"]


def test_trials_of_an_arm_keep_their_order() -> None:
    assert [kept.training.seed for kept in TRIALS.of("sgd-l2")] == [0, 1]
    assert TRIALS.of("adamw") == TRIALS.trials[2:]
    assert TRIALS.of("absent") == ()


def test_another_document_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    write_document(path, COMPARISON)
    with pytest.raises(
        DataError,
        match=r"document\.json: not a .* document; run the stage again: .*: 5 problems\ntrials: is required",
    ):
        read_document(path, Trials)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_what_is_not_json_is_refused_with_its_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "document.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"document\.json: not a Trials document; run the stage again: "):
        read_document(path, Trials)


def test_an_absent_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent: No such file or directory"):
        read_document(tmp_path / "absent", Trials)

"""The evaluate stage on a model whose answers are known, through its KFP face."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from kfp import dsl

from optduel.components.evaluate.component import evaluate
from optduel.components.records import Records, SplitReader
from optduel.components.results import (
    TrainingRecord,
    Trial,
    environment,
    now,
    read_document,
    write_document,
    write_history,
)


def write_model(folder: Path, model: keras.Model, records: Records) -> None:
    folder.mkdir()
    model.save(folder / "model.keras")
    record = TrainingRecord(
        arm="arm",
        seed=3,
        fingerprint="f" * 64,
        data_fingerprint=records.manifest.fingerprint,
        model_sha256=hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest(),
        parameters=model.count_params(),
        precision="float32",
        workers=1,
        replicas=1,
        started=now(),
        seconds=1.0,
        environment=environment(),
    )
    write_document(folder / "training.json", record)


def linear_model(kernel: np.ndarray, shape: tuple[int, int, int] = (8, 8, 1)) -> keras.Model:
    pixels = keras.Input(shape, dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(kernel.shape[1], use_bias=False)(flat))
    model.set_weights([kernel])
    return model


class Stage:
    """One call of the component with artifacts in a folder of its own."""

    def __init__(self, folder: Path, records: Records) -> None:
        self.model = folder / "model"
        self._folder = folder
        (folder / "records").write_text(records.canonical_json())
        write_history(folder / "history", [])

    def run(self) -> tuple[Trial, dsl.Metrics, dsl.ClassificationMetrics]:
        def uri(name: str) -> str:
            return str(self._folder / name)

        metrics = dsl.Metrics(uri=uri("metrics"))
        classification = dsl.ClassificationMetrics(uri=uri("classification"))
        evaluate.python_func(
            confidence=0.95,
            records=dsl.Dataset(uri=uri("records")),
            model=dsl.Model(uri=uri("model")),
            history=dsl.Dataset(uri=uri("history")),
            trial=dsl.Dataset(uri=uri("trial")),
            metrics=metrics,
            classification=classification,
        )
        return read_document(self._folder / "trial", Trial), metrics, classification


ARITHMETIC = """
import sys
import tensorflow as tf
from optduel.components.records import load_records
from optduel.components.evaluate.model import load_model
load_model(sys.argv[1], sys.argv[2], load_records(sys.argv[3]).manifest)
assert not tf.config.experimental.tensor_float_32_execution_enabled()
try:
    tf.random.uniform([])
except RuntimeError as error:
    assert "determinism" in str(error)
else:
    raise AssertionError("operations need not be deterministic")
"""


@pytest.mark.slow
def test_evaluation_computes_as_training_does(records: Records, tmp_path: Path) -> None:
    """In a process of its own, because these settings hold for a whole process."""
    write_model(tmp_path / "model", linear_model(np.zeros((64, 10))), records)
    file = tmp_path / "model" / "model.keras"
    (tmp_path / "records").write_text(records.canonical_json())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    command = [sys.executable, "-c", ARITHMETIC, str(file), digest, str(tmp_path / "records")]
    subprocess.run(command, check=True, timeout=120)


def test_evaluation_of_the_test_split_agrees_with_plain_arithmetic(records: Records, tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    stage = Stage(tmp_path, records)
    write_model(stage.model, linear_model(kernel), records)
    trial, metrics, classification = stage.run()

    reader = SplitReader(records, "test")
    positions = np.arange(len(reader))
    images, labels = reader.read(positions % 8, positions // 8)
    logits = images.reshape(len(images), -1).astype(np.float64) / 255 @ kernel.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    cross_entropy = -float(np.mean(log_probabilities[np.arange(len(labels)), labels]))

    evaluation = trial.evaluation
    assert (evaluation.arm, evaluation.seed, evaluation.split) == ("arm", 3, "test")
    assert evaluation.examples == len(labels)
    assert evaluation.accuracy.value == pytest.approx(accuracy)
    assert evaluation.cross_entropy.value == pytest.approx(cross_entropy, rel=1e-5)
    assert np.sum(evaluation.confusion) == len(labels)
    assert np.sum(evaluation.confusion, axis=1).tolist() == np.bincount(labels, minlength=10).tolist()

    assert metrics.metadata["accuracy"] == evaluation.accuracy.value
    shown = classification.metadata["confusionMatrix"]
    assert [column["displayName"] for column in shown["annotationSpecs"]] == list(records.manifest.classes)
    assert [row["row"] for row in shown["rows"]] == [list(row) for row in evaluation.confusion]
    curve = classification.metadata["confidenceMetrics"]
    assert 2 <= len(curve) <= 101
    json.dumps([metrics.metadata, classification.metadata], allow_nan=False)


def refused(stage: Stage, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        stage.run()
    assert stopped.value.code == 65
    return capsys.readouterr().err


def test_model_file_that_was_not_trained_is_refused(
    records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, records)
    write_model(stage.model, linear_model(np.zeros((64, 10), np.float32)), records)
    with (stage.model / "model.keras").open("ab") as file:
        file.write(b"x")
    assert "model.keras: SHA-256" in refused(stage, capsys)


def test_model_of_other_images_is_refused(
    records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, records)
    write_model(stage.model, linear_model(np.zeros((16, 10), np.float32), (4, 4, 1)), records)
    assert "takes images (4, 4, 1) of 10 classes, the records hold (8, 8, 1) of 10" in refused(stage, capsys)


def test_model_that_would_run_code_is_refused_and_runs_none(
    records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = tmp_path / "canary"
    pixels = keras.Input((8, 8, 1), dtype="uint8")
    flat = keras.layers.Flatten()(pixels)
    hostile = keras.layers.Lambda(lambda x, touch=str(canary): os.mkdir(touch) or x, output_shape=(64,))(flat)
    stage = Stage(tmp_path, records)
    model = keras.Model(pixels, hostile)
    if canary.exists():
        canary.rmdir()
    write_model(stage.model, model, records)
    assert zipfile.is_zipfile(stage.model / "model.keras")
    assert "cannot be loaded in safe mode" in refused(stage, capsys)
    assert not canary.exists()

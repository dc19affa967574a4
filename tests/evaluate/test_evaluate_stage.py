"""The evaluate stage on a model whose answers are known, through its KFP face."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from kfp import dsl

from optduel.components.evaluate.component import evaluate
from optduel.components.evaluate.evaluate import examples_at_once
from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.records import Records, SplitReader
from optduel.components.results import (
    DivergedTrial,
    Divergence,
    Row,
    TrainingRecord,
    Trial,
    environment,
    now,
    predictions_file,
    read_document,
    read_predictions,
    read_trial_end,
    trial_document,
    write_document,
    write_history,
)


def write_model(folder: Path, model: keras.Model, records: Records) -> None:
    folder.mkdir(parents=True)
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
    write_history(folder / "history.jsonl", [])


def linear_model(kernel: np.ndarray, shape: tuple[int, int, int] = (8, 8, 1)) -> keras.Model:
    pixels = keras.Input(shape, dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(kernel.shape[1], use_bias=False)(flat))
    model.set_weights([kernel])
    return model


class Stage:
    """One call of the component with artifacts in a folder of its own."""

    def __init__(self, folder: Path, records: Records) -> None:
        self.model = folder / "model" / "seed-3"
        self._folder = folder
        (folder / "records").write_text(records.canonical_json())

    def run(self) -> tuple[Trial, dsl.Metrics, dsl.ClassificationMetrics]:
        metrics, classification = self.evaluate()
        kept = trial_document(str(self._folder / "runs/run-1"), "arm", 3)
        return read_document(kept, Trial), metrics, classification

    def evaluate(self) -> tuple[dsl.Metrics, dsl.ClassificationMetrics]:
        def uri(name: str) -> str:
            return str(self._folder / name)

        metrics = dsl.Metrics(uri=uri("metrics"))
        classification = dsl.ClassificationMetrics(uri=uri("classification"))
        evaluate.python_func(
            confidence=0.95,
            seeds="[3]",
            root=str(self._folder),
            run="run-1",
            records=dsl.Dataset(uri=uri("records")),
            model=dsl.Model(uri=uri("model")),
            metrics=metrics,
            classification=classification,
        )
        return metrics, classification


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
def test_evaluation_computes_as_training_does(records: Records, tmp_path: Path, forking_python: str) -> None:
    """In a process of its own, because these settings hold for a whole process."""
    write_model(tmp_path / "model", linear_model(np.zeros((64, 10))), records)
    file = tmp_path / "model" / "model.keras"
    (tmp_path / "records").write_text(records.canonical_json())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    command = [forking_python, "-c", ARITHMETIC, str(file), digest, str(tmp_path / "records")]
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

    predictions = read_predictions(predictions_file(str(tmp_path / "runs/run-1"), "arm", 3))
    assert (predictions.arm, predictions.seed, predictions.split) == ("arm", 3, "test")
    assert predictions.model_sha256 == evaluation.model_sha256
    assert predictions.classes == records.manifest.classes
    assert predictions.labels.tolist() == labels.tolist()
    assert np.log(predictions.probabilities) == pytest.approx(log_probabilities, rel=1e-3, abs=1e-5)
    again = evaluate_probabilities(predictions.probabilities, predictions.labels, predictions.classes, 0.95)
    assert again.as_evaluation("arm", 3, "test", evaluation.model_sha256) == evaluation, "to the last digit"
    assert len(set(predictions.examples)) == len(labels), "digits has no duplicates"

    assert metrics.metadata["accuracy"] == evaluation.accuracy.value
    assert {type(value) for value in metrics.metadata.values()} == {float}, "text is shown in quotes"
    assert classification.metadata["seed"] == 3.0
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
    # No defaults and no closure: Keras can rebuild this one, and would run it, but for safe mode.
    code = f"lambda x: x[:, :10] * float(__import__('os').makedirs({str(canary)!r}, exist_ok=True) is None)"
    pixels = keras.Input((8, 8, 1), dtype="uint8")
    flat = keras.layers.Flatten()(pixels)
    hostile = keras.layers.Lambda(eval(code), output_shape=(10,))(keras.layers.Rescaling(1.0)(flat))
    stage = Stage(tmp_path, records)
    write_model(stage.model, keras.Model(pixels, hostile), records)
    file = stage.model / "model.keras"
    keras.saving.load_model(file, safe_mode=False).predict_on_batch(np.zeros((1, 8, 8, 1), np.uint8))
    assert canary.exists(), "the trap works"
    canary.rmdir()
    assert "cannot be loaded in safe mode" in refused(stage, capsys)
    assert not canary.exists()


def test_a_model_of_other_records_is_refused(
    records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same shape and classes: only what it was trained on tells them apart."""
    stage = Stage(tmp_path, records)
    other = records.model_copy(
        update={"manifest": records.manifest.model_copy(update={"fingerprint": "0" * 64})}
    )
    write_model(stage.model, linear_model(np.zeros((64, 10), np.float32)), other)
    assert f"model.keras: was trained on records {'0' * 64}, not on these" in refused(stage, capsys)


PEAK = """
import resource
import numpy as np
from optduel.components.evaluate.evaluate import examples_at_once
from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.numerics import set_up_libraries
set_up_libraries()
from optduel.components.train.model.models import build_model
from optduel.pipeline.cli.shipped import load_experiment
experiment = load_experiment("tutorial")
model = build_model(experiment.model, (*experiment.data.image_size, experiment.data.channels), 5)
batch = examples_at_once(model)
for _ in range(2):
    model.predict_on_batch(np.zeros((batch, *model.input_shape[1:]), np.uint8))
print(batch, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_tutorial_is_evaluated_in_half_of_the_memory_that_a_pod_has() -> None:
    """Its images are 180 x 180: 256 of them at a time took 4.8 GiB, and a pod has 4."""
    finished = subprocess.run(
        [sys.executable, "-c", PEAK], check=True, timeout=300, stdout=subprocess.PIPE, text=True
    )
    batch, mebibytes = map(int, finished.stdout.split())
    assert 8 <= batch <= 64
    assert mebibytes < 2048


def test_small_images_are_evaluated_as_many_at_a_time_as_before() -> None:
    """The numbers of a forward pass depend, in their last bits, on how many examples it takes."""
    assert examples_at_once(linear_model(np.zeros((64, 10), np.float32))) == 256


LAST = Row.model_validate(
    dict.fromkeys(Row.model_fields, 1) | {"event": "epoch", "split": "train", "epoch": 5, "step": 20}
)


def ended(folder: Path) -> DivergedTrial:
    kept = read_trial_end(trial_document(str(folder / "runs/run-1"), "arm", 3))
    assert isinstance(kept, DivergedTrial)
    return kept


def test_a_trial_that_diverged_has_nothing_to_evaluate(records: Records, tmp_path: Path) -> None:
    stage = Stage(tmp_path, records)
    write_model(stage.model, linear_model(np.zeros((64, 10))), records)
    trained = read_document(stage.model / "training.json", TrainingRecord)
    known = trained.model_dump(exclude={"status", "model_sha256"})
    divergence = Divergence.model_validate(known | {"epoch": 2, "step": 9, "reason": "validation loss"})
    write_document(stage.model / "training.json", divergence)
    (stage.model / "model.keras").unlink()
    metrics, classification = stage.evaluate()
    assert ended(tmp_path) == DivergedTrial(training=divergence, history=(), split="test")
    assert metrics.metadata == {"diverged": 1.0}
    assert json.loads(Path(metrics.path).read_text()) == {"diverged": 1.0}
    assert classification.metadata == {}


def test_a_model_whose_outputs_are_not_finite_has_diverged(records: Records, tmp_path: Path) -> None:
    """Validation may have been finite: these are other images."""
    stage = Stage(tmp_path, records)
    write_model(stage.model, linear_model(np.full((64, 10), 3e38, np.float32)), records)
    write_history(stage.model / "history.jsonl", [LAST])
    metrics, _ = stage.evaluate()
    trial = ended(tmp_path)
    assert trial.training.text == "an output for the test split not finite at step 20, in epoch 5"
    assert trial.history[0].step == 20
    assert metrics.metadata == {"diverged": 1.0}

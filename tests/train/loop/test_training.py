"""Whole trials in real worker processes: what they leave, twice the same, and what stops them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from optduel.components.core import DataError, ExperimentError, RefusedError, StorageError
from optduel.components.records import Records, SplitReader
from optduel.components.results import (
    Divergence,
    Row,
    TrainingRecord,
    epochs_of,
    read_document,
    read_training_end,
)
from optduel.components.train.contract.control import Control
from optduel.components.train.contract.task import WORKER_MODULE, Task
from optduel.components.train.loop.loop import train
from optduel.components.train.loop.recorder import MEASURES
from optduel.components.train.worker.tensorflow_errors import in_our_words
from tests.train.conftest import ADAMW, CNN, SGD, reproducible

MakeTask = Callable[..., Task]
RunTask = Callable[[Task], tuple[Row, ...]]

PYTHON = sys.executable
"""As it is: not the one that forks, through which `run_task` starts its workers."""


@pytest.mark.slow
def test_trial_is_repeatable_and_survives_kill_9(make_task: MakeTask, run_task: RunTask) -> None:
    uninterrupted = make_task("uninterrupted", ADAMW, CNN, epochs=6)
    whole = run_task(uninterrupted)

    killed = make_task("killed", ADAMW, CNN, epochs=6)
    task_file = Path(killed.output) / "task.json"
    task_file.parent.mkdir(parents=True)
    task_file.write_text(killed.canonical_json(), encoding="utf-8")
    process = subprocess.Popen([PYTHON, "-m", WORKER_MODULE, str(task_file)])
    try:
        deadline = time.monotonic() + 120
        while not list(Path(killed.checkpoint_folder).glob("step-*.npz")):
            assert process.poll() is None, "the worker must not end before it is killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not Path(killed.record_file).exists()

    resumed = run_task(killed)
    assert reproducible(resumed) == reproducible(whole)
    weights = [keras.saving.load_model(task.model_file).get_weights() for task in (uninterrupted, killed)]
    for one, other in zip(*weights, strict=True):
        assert one.tobytes() == other.tobytes()


def events_of(task: Task) -> dict[tuple[str, int], float]:
    """What TensorBoard would show: values by tag and step."""
    values = {}
    for path in Path(task.events_folder).iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                values[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return values


@pytest.mark.slow
def test_results_of_a_trial(make_task: MakeTask, run_task: RunTask, records: Records) -> None:
    task = make_task("trial", SGD)
    rows = run_task(task)

    trained, validated = epochs_of(rows, "train"), epochs_of(rows, "validation")
    assert [row.step for row in trained] == [20, 40, 60]
    assert {row.examples for row in trained} == {records.manifest.splits["train"].records}
    assert {row.examples for row in validated} == {records.manifest.splits["validation"].records}
    assert trained[-1].cross_entropy < trained[0].cross_entropy
    for row in rows:
        assert row.total == pytest.approx(row.cross_entropy + row.penalty, rel=1e-12)
        assert row.decay == pytest.approx(2 * 0.0005 * row.learning_rate)
    # An epoch's sums are the sums of its steps.
    for epoch in trained:
        steps = [row for row in rows if row.event == "step" and row.epoch == epoch.epoch]
        assert sum(row.examples for row in steps) == epoch.examples
        mean = sum(row.cross_entropy * row.examples for row in steps) / epoch.examples
        assert mean == pytest.approx(epoch.cross_entropy, rel=1e-9)

    # The exported model needs none of our code, and does what the trained one did on the validation split.
    model = keras.saving.load_model(task.model_file, safe_mode=True)
    reader = SplitReader(records, "validation")
    positions = np.arange(len(reader))
    images, labels = reader.read(positions % 8, positions // 8)
    logits = model.predict_on_batch(images)
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    assert accuracy == pytest.approx(validated[-1].accuracy)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    cross_entropy = -float(np.mean(log_probabilities[np.arange(len(labels)), labels]))
    assert cross_entropy == pytest.approx(validated[-1].cross_entropy, rel=1e-5)
    kernels = [weight for weight in model.trainable_weights if weight.path.endswith("kernel")]
    assert 0.0005 * sum(float(np.sum(np.square(kernel))) for kernel in kernels) == pytest.approx(
        validated[-1].penalty, rel=1e-5
    )

    record = read_document(task.record_file, TrainingRecord)
    assert record.parameters == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (record.workers, record.replicas, record.data_fingerprint) == (1, 1, records.manifest.fingerprint)
    assert sorted(path.name for path in Path(task.checkpoint_folder).iterdir()) == [
        "step-0000000040.npz",
        "step-0000000060.npz",
    ]
    assert events_of(task) == {
        (f"{row.event}/{measure}/{row.split}", row.step): pytest.approx(getattr(row, measure), rel=1e-6)
        for row in rows
        for measure in MEASURES
    }


def final_gammas(task: Task) -> np.ndarray:
    (path,) = Path(task.checkpoint_folder).glob("step-0000000040.npz")
    with np.load(path, allow_pickle=False) as archive:
        return np.concatenate([archive[name] for name in archive.files if name.endswith("/gamma")])


@pytest.mark.slow
def test_biases_stay_excluded_from_decay_after_save_and_load(make_task: MakeTask, run_task: RunTask) -> None:
    """Under a decay this strong gammas shrink when they are decayed, and stay when they are not."""
    arm = ADAMW | {"weight_decay": 50.0, "learning_rate": {"schedule": "constant", "base": 0.001}}
    spared = make_task("spared", arm, CNN, epochs=2)
    whole = run_task(spared)
    gammas = final_gammas(spared)
    # Without its last checkpoint the trial goes on from the one before: saved and loaded half-way.
    Path(spared.checkpoint_folder, "step-0000000040.npz").unlink()
    assert reproducible(run_task(spared)) == reproducible(whole)
    np.testing.assert_array_equal(final_gammas(spared), gammas)

    decayed = make_task("decayed", arm | {"decayed": ["kernel", "normalization"]}, CNN, epochs=2)
    run_task(decayed)
    assert np.linalg.norm(final_gammas(decayed)) < 0.5 * np.linalg.norm(gammas)


@pytest.mark.slow
def test_mixed_precision_trains_float32_weights_and_exports_a_float32_model(
    make_task: MakeTask, run_task: RunTask
) -> None:
    task = make_task("mixed", ADAMW, CNN, precision="mixed_bfloat16", epochs=1)
    exact = run_task(make_task("exact", ADAMW, CNN, epochs=1))
    rows = run_task(task)
    deviation = abs(rows[0].cross_entropy / exact[0].cross_entropy - 1)
    assert 0 < deviation < 0.02, "bfloat16 has three digits: not the same numbers, and not others either"
    model = keras.saving.load_model(task.model_file)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers} <= {"float32", "uint8"}


@pytest.mark.slow
def test_a_group_of_workers_whose_trial_diverges_ends_well(
    make_task: MakeTask, run_task: RunTask, capfd: pytest.CaptureFixture[str]
) -> None:
    explosive = SGD | {"learning_rate": {"schedule": "constant", "base": 1e30}}
    task = make_task("explosive", explosive, compute={"workers": 2})
    run_task(task)
    record = read_training_end(task.record_file)
    assert isinstance(record, Divergence)
    assert record.workers == 2
    assert not Path(task.model_file).exists()
    assert f"train sgd-l2, seed 0: diverged, and ends here: {record.text}; where" in capfd.readouterr().err


@pytest.mark.slow
def test_weights_that_overflow_only_in_their_norm_are_a_divergence_too(
    make_task: MakeTask, run_task: RunTask
) -> None:
    # Each step multiplies weights by -9: their squares overflow while losses and gradients are finite.
    sgdw = {
        "name": "sgdw",
        "optimizer": "sgdw",
        "weight_decay": 100.0,
        "learning_rate": {"schedule": "constant", "base": 0.1},
    }
    task = make_task("overflowing", sgdw, {"name": "linear"}, epochs=2, log_every_steps=1)
    rows = run_task(task)
    record = read_training_end(task.record_file)
    assert isinstance(record, Divergence)
    assert record.reason == "weight norm"
    assert rows[-1].step == record.step - 1 > 0, "the history so far is kept"


@pytest.mark.slow
def test_damaged_shard_is_named_before_the_first_step(
    make_task: MakeTask, run_task: RunTask, records: Records, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(records.folder, copy)
    shard = copy / records.manifest.splits["train"].shards[3].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    task = make_task("damaged").model_copy(
        update={"records": Records(location=str(copy), manifest=records.manifest)}
    )
    with pytest.raises(DataError, match=f"{shard.name}: CRC-32C"):
        run_task(task)
    assert not Path(task.history_file).exists()


class Meddler(Control):
    """Calls a function once, after the first steps."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__(None)
        self._meddle: Callable[[], object] | None = meddle

    def report(self, phase: str, step: int) -> None:
        super().report(phase, step)
        if step and self._meddle:
            self._meddle()
            self._meddle = None


@pytest.mark.slow
def test_a_shard_that_is_cut_while_training_is_named(
    make_task: MakeTask, records: Records, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(records.folder, copy)
    shard = copy / records.manifest.splits["train"].shards[-1].file
    task = make_task("cut", model={"name": "linear"}, epochs=100).model_copy(
        update={"records": Records(location=str(copy), manifest=records.manifest)}
    )
    meddler = Meddler(lambda: os.truncate(shard, 1000))
    with pytest.raises(DataError, match=f"{shard.name}: ends within a record"), in_our_words("worker 0"):
        train(task, tf.distribute.get_strategy(), meddler)


@pytest.mark.slow
def test_a_disk_that_fails_while_training_is_named(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is not taken for the talk between workers, whatever words are in it."""

    def fail(*_: object) -> None:
        raise StorageError("/peer/grpc: Stale file handle")

    task = make_task("stale", model={"name": "linear"}, epochs=100)
    meddler = Meddler(lambda: monkeypatch.setattr(SplitReader, "read", fail))
    with pytest.raises(StorageError, match="^/peer/grpc: Stale"), in_our_words("worker 0"):
        train(task, tf.distribute.get_strategy(), meddler)


@pytest.mark.slow
def test_an_output_that_refuses_every_time_is_tried_once(
    make_task: MakeTask, run_task: RunTask, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    task = make_task("file/trial", model={"name": "linear"}, compute={"restarts": 3})
    with pytest.raises(RefusedError, match=f"^{tmp_path}/file/trial.*; a part of it is a file"):
        run_task(task)
    assert "All workers start again" not in capfd.readouterr().err


def test_workers_must_divide_the_shards(make_task: MakeTask, run_task: RunTask) -> None:
    with pytest.raises(ExperimentError, match="compute.workers = 3: must divide the records' 8 shards"):
        run_task(make_task("three", workers=3))

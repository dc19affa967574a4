"""Whole trials in real worker processes: the same history for any worker count, after a kill, and twice."""

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

from components.core.errors import DataError, ExperimentError, LaunchError, TrainingError
from components.core.history import Row, epochs_of, read_history
from components.core.records import Records, SplitReader
from components.core.results import TrainingRecord, read_document
from components.train.launch import LocalLauncher
from components.train.task import Task
from pipeline.shipped import load_experiment
from tests.train.conftest import ADAMW, CNN, SGD, reproducible

MakeTask = Callable[..., Task]
RunTask = Callable[[Task], tuple[Row, ...]]
NUMBERS = (
    "cross_entropy",
    "penalty",
    "total",
    "accuracy",
    "gradient_norm",
    "weight_norm",
    "learning_rate",
    "decay",
)


def largest_deviation(rows: tuple[Row, ...], others: tuple[Row, ...]) -> float:
    """Largest relative difference of any number in any row; the rows must be of the same events."""
    assert [(row.event, row.split, row.step, row.examples) for row in rows] == [
        (row.event, row.split, row.step, row.examples) for row in others
    ]
    pairs = [
        (getattr(one, name), getattr(other, name))
        for one, other in zip(rows, others, strict=True)
        for name in NUMBERS
    ]
    return max(abs(one - other) / max(abs(one), 1e-12) for one, other in pairs)


DIGITS = load_experiment("digits")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "model", "epochs"),
    [(DIGITS.arms[0], DIGITS.model, 5), (DIGITS.arms[1], DIGITS.model, 5), (ADAMW, CNN, 3)],
    ids=["digits-sgd-l2", "digits-adamw", "dropout-and-batch-normalization"],
)
def test_two_workers_have_the_history_of_one(
    arm: object, model: object, epochs: int, make_task: MakeTask, run_task: RunTask
) -> None:
    """A hundred steps of the shipped arms, each epoch with a ragged last batch; validation included."""
    alone = run_task(make_task("alone", arm, model, epochs=epochs))
    together = run_task(make_task("together", arm, model, workers=2, epochs=epochs))
    assert alone[-1].step == 20 * epochs
    assert epochs_of(alone, "train")[0].examples % 64, "the last batch must be ragged"
    assert largest_deviation(alone, together) < 1e-5


REPLICAS = """
import sys
import tensorflow as tf
from components.core.authoring import decode
from components.train.loop import train
from components.train.task import Task
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
train(decode(Task, sys.argv[1], "task"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
"""


@pytest.mark.slow
def test_two_replicas_of_one_process_have_the_history_of_one(make_task: MakeTask, run_task: RunTask) -> None:
    """What several GPUs of one worker do, on two devices that this processor is divided into."""
    alone = run_task(make_task("alone", ADAMW, CNN))
    task = make_task("replicas", ADAMW, CNN)
    subprocess.run([sys.executable, "-c", REPLICAS, task.canonical_json()], check=True, timeout=120)
    assert read_document(task.record_file, TrainingRecord).replicas == 2
    assert largest_deviation(alone, read_history(task.history_file)) < 1e-5


@pytest.mark.slow
def test_trial_is_repeatable_and_survives_kill_9(make_task: MakeTask, run_task: RunTask) -> None:
    uninterrupted = make_task("uninterrupted", ADAMW, CNN, epochs=6)
    whole = run_task(uninterrupted)

    killed = make_task("killed", ADAMW, CNN, epochs=6)
    task_file = Path(killed.output) / "task.json"
    task_file.parent.mkdir(parents=True)
    task_file.write_text(killed.canonical_json(), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "components.train.worker", str(task_file)])
    try:
        deadline = time.monotonic() + 120
        while not list(killed.checkpoint_folder.glob("step-*.npz")):
            assert process.poll() is None, "the worker must not end before it is killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not killed.record_file.exists()

    resumed = run_task(killed)
    assert reproducible(resumed) == reproducible(whole)
    weights = [keras.saving.load_model(task.model_file).get_weights() for task in (uninterrupted, killed)]
    for one, other in zip(*weights, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.slow
def test_results_of_a_trial(make_task: MakeTask, run_task: RunTask, records: Records) -> None:
    task = make_task("trial", SGD, checkpoints_kept=2)
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
    assert sorted(path.name for path in task.checkpoint_folder.iterdir()) == [
        "step-0000000040.npz",
        "step-0000000060.npz",
    ]


def final_gammas(task: Task) -> np.ndarray:
    (path,) = task.checkpoint_folder.glob("step-0000000040.npz")
    with np.load(path, allow_pickle=False) as archive:
        return np.concatenate([archive[name] for name in archive.files if name.endswith("/gamma")])


@pytest.mark.slow
def test_biases_stay_excluded_from_decay_after_save_and_load(make_task: MakeTask, run_task: RunTask) -> None:
    """Under a decay this strong gammas shrink when they are decayed, and stay when they are not."""
    arm = ADAMW | {"weight_decay": 50.0, "learning_rate": {"schedule": "constant", "base": 0.001}}
    spared = make_task("spared", arm, CNN, epochs=2, checkpoints_kept=2)
    whole = run_task(spared)
    gammas = final_gammas(spared)
    # Without its last checkpoint the trial goes on from the one before: saved and loaded half-way.
    (spared.checkpoint_folder / "step-0000000040.npz").unlink()
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
def test_divergence_names_the_step_and_the_remedy(make_task: MakeTask, run_task: RunTask) -> None:
    explosive = SGD | {"learning_rate": {"schedule": "constant", "base": 1e30}}
    task = make_task("explosive", explosive)
    with pytest.raises(
        TrainingError, match=r"sgd-l2, seed 0: .* not finite at step \d+; lower learning_rate.base"
    ):
        run_task(task)
    assert not task.model_file.exists()


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
    assert not task.history_file.exists()


@pytest.mark.slow
def test_group_ends_together_when_a_worker_is_killed(make_task: MakeTask) -> None:
    task = make_task("group", workers=2, epochs=100_000)
    Path(task.output).mkdir(parents=True)
    launched = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, task.canonical_json()], stderr=subprocess.PIPE, text=True
    )
    assert launched.stderr is not None
    try:
        for line in launched.stderr:
            if "epoch 1/" in line:
                break
        children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[1]), signal.SIGKILL)
        _, errors = launched.communicate(timeout=60)
    finally:
        launched.kill()
        launched.wait()
    assert "LaunchError" in errors
    assert "train sgd-l2, seed 0: worker" in errors
    assert not [child for child in children if Path(f"/proc/{child}").exists()], "a worker outlived its group"


LAUNCH = """
import sys
from components.core.authoring import decode
from components.train.launch import LocalLauncher
from components.train.task import Task
LocalLauncher().run(decode(Task, sys.argv[1], "task"))
"""


def test_workers_must_divide_the_shards(make_task: MakeTask, run_task: RunTask) -> None:
    with pytest.raises(ExperimentError, match="compute.workers = 3: must divide the records' 8 shards"):
        run_task(make_task("three", workers=3))


def test_worker_that_cannot_start_is_told(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LaunchError, match="worker 0 of 1 exited with code 1"):
        LocalLauncher().run(make_task("false"))

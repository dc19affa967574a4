"""One history for any number of workers and replicas: ragged last batches and validation included."""

import subprocess
from collections.abc import Callable

import pytest

from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records
from optduel.components.results import Row, TrainingRecord, epochs_of, read_document, read_history
from optduel.components.train.contract.task import Task
from optduel.pipeline.cli.shipped import load_experiment
from tests.train.conftest import ADAMW, CNN, SGD, TUTORIAL, largest_deviation

MakeTask = Callable[..., Task]
RunOnReplicas = Callable[[Task, int], tuple[Row, ...]]
RunTask = Callable[[Task], tuple[Row, ...]]
DIGITS = load_experiment("digits")
NESTEROV = SGD | {"nesterov": True, "decayed": ["kernel", "bias"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "model", "groups"),
    [
        pytest.param(SGD, TUTORIAL, (2, 4), id="sgd-l2", marks=pytest.mark.exhaustive),
        pytest.param(DIGITS.arms[1], TUTORIAL, (2, 4), id="digits-adamw", marks=pytest.mark.exhaustive),
        pytest.param(ADAMW, CNN, (2,), id="dropout-and-batch-normalization"),
        pytest.param(
            ADAMW, CNN, (4,), id="dropout-and-batch-normalization-by-4", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_workers_have_one_history_in_float32(
    arm: object, model: object, groups: tuple[int, ...], make_task: MakeTask, run_task: RunTask
) -> None:
    """A hundred steps, each number of each row.

    At the rate of 0.1 that `digits` gives SGD a difference of rounding grows from 1e-8 to 1e-2 in a hundred
    steps, whatever causes it: that arm is compared in float64 below.
    """
    alone = run_task(make_task("alone", arm, model, epochs=5))
    assert alone[-1].step == 100
    assert epochs_of(alone, "train")[0].examples % 64, "the last batch must be ragged"
    for workers in groups:
        together = run_task(make_task(f"by-{workers}", arm, model, workers=workers, epochs=5))
        assert largest_deviation(alone, together) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "model", "groups"),
    [
        pytest.param(DIGITS.arms[0], TUTORIAL, (2,), id="digits-sgd-l2"),
        pytest.param(DIGITS.arms[0], TUTORIAL, (4,), id="digits-sgd-l2-by-4", marks=pytest.mark.exhaustive),
        pytest.param(NESTEROV, TUTORIAL, (2, 4), id="nesterov", marks=pytest.mark.exhaustive),
        pytest.param(
            ADAMW, CNN, (2, 4), id="adamw-dropout-and-batch-normalization", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_workers_have_one_history_in_float64(
    arm: object, model: object, groups: tuple[int, ...], make_task: MakeTask, run_task: RunTask
) -> None:
    """What float32 leaves open: differences are of rounding, not of arithmetic."""
    alone = run_task(make_task("alone", arm, model, precision="float64"))
    for workers in groups:
        together = run_task(make_task(f"by-{workers}", arm, model, workers=workers, precision="float64"))
        assert largest_deviation(alone, together) < 1e-9


@pytest.mark.slow
@pytest.mark.exhaustive
def test_workers_train_in_bfloat16_together(make_task: MakeTask, run_task: RunTask) -> None:
    """Three digits, so the histories drift apart; a gradient that is lost or doubled would show at once."""
    alone = run_task(make_task("alone", precision="mixed_bfloat16", epochs=1))
    together = run_task(make_task("together", workers=2, precision="mixed_bfloat16", epochs=1))
    deviations = [
        abs(one.cross_entropy / other.cross_entropy - 1) for one, other in zip(alone, together, strict=True)
    ]
    assert max(deviations) < 0.02


REPLICAS = """
import sys
import tensorflow as tf
from optduel.components.settings.authoring import decode
from optduel.components.train.contract.control import Control
from optduel.components.train.loop.loop import train
from optduel.components.train.contract.task import Task
processor, count = tf.config.list_physical_devices("CPU")[0], int(sys.argv[2])
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
devices = [f"CPU:{number}" for number in range(count)]
train(decode(Task, sys.argv[1], "task"), tf.distribute.MirroredStrategy(devices), Control(None))
"""
"""What several GPUs of one worker do, on devices that this processor is divided into."""


@pytest.fixture
def run_on_replicas(forking_python: str) -> RunOnReplicas:
    """Runs a task in one process on so many replicas and returns its history."""

    def run(task: Task, count: int) -> tuple[Row, ...]:
        command = [forking_python, "-c", REPLICAS, task.canonical_json(), str(count)]
        subprocess.run(command, check=True, timeout=180)
        assert read_document(task.record_file, TrainingRecord).replicas == count
        return read_history(task.history_file)

    return run


BOTH = pytest.mark.parametrize(
    ("arm", "model"),
    [
        pytest.param(ADAMW, CNN, id="cnn"),
        pytest.param(SGD, TUTORIAL, id="tutorial", marks=pytest.mark.exhaustive),
    ],
)


@pytest.mark.slow
@BOTH
def test_two_replicas_of_one_process_have_the_history_of_one(
    arm: object, model: object, make_task: MakeTask, run_task: RunTask, run_on_replicas: RunOnReplicas
) -> None:
    alone = run_task(make_task("alone", arm, model))
    assert largest_deviation(alone, run_on_replicas(make_task("replicas", arm, model), 2)) < 1e-5


@pytest.fixture(scope="module")
def few_records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """50 images to train on and 50 to validate."""
    split = DIGITS.data.split.model_copy(update={"train": 0.03, "validation": 0.03, "test": 0.94})
    data = DIGITS.data.model_copy(update={"split": split})
    return prepare_records(data, str(tmp_path_factory.mktemp("few")))


def on(records: Records, task: Task) -> Task:
    return task.model_copy(update={"records": records})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "batch_size"),
    [
        pytest.param(2, 7, id="last-batch"),
        pytest.param(4, 3, id="every-batch", marks=pytest.mark.exhaustive),
    ],
)
@BOTH
def test_replicas_without_an_example_change_nothing(
    arm: object,
    model: object,
    replicas: int,
    batch_size: int,
    make_task: MakeTask,
    run_task: RunTask,
    run_on_replicas: RunOnReplicas,
    few_records: Records,
) -> None:
    """One example is left for the last batch of 7, and a batch of 3 is too small for 4 replicas."""
    tasks = [
        on(few_records, make_task(name, arm, model, epochs=1, global_batch_size=batch_size))
        for name in ("alone", "replicas")
    ]
    alone = run_task(tasks[0])
    assert [row.examples for row in epochs_of(alone, "validation")] == [50]
    assert largest_deviation(alone, run_on_replicas(tasks[1], replicas)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.exhaustive)]
)
def test_a_worker_without_an_example_goes_on(
    precision: str, make_task: MakeTask, run_task: RunTask, few_records: Records
) -> None:
    options = {"precision": precision, "epochs": 1, "global_batch_size": 7}
    alone, together = (
        run_task(on(few_records, make_task(f"by-{workers}", workers=workers, **options)))
        for workers in (1, 2)
    )
    assert largest_deviation(alone, together) < (1e-5 if precision == "float32" else 0.05)

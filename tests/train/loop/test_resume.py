"""A trial that is stopped anywhere goes on as if it had not been, with the same or another worker count."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from optduel.components.core import LaunchError
from optduel.components.results import Row, read_history
from optduel.components.train.contract.control import Control
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import bench, loop
from optduel.components.train.loop.checkpoint import Checkpoint
from optduel.components.train.loop.state import State
from tests.train.conftest import ADAMW, CNN, SGD, TUTORIAL, largest_deviation, reproducible

MakeTask = Callable[..., Task]
TrainWithStops = Callable[[Task, list[tuple[str, int]]], list[int]]
RunTask = Callable[[Task], tuple[Row, ...]]

STOPPED = """
import json
import sys
import tensorflow as tf
from optduel.components.settings.authoring import decode
from optduel.components.core.errors import StoppedError
from optduel.components.train.contract.control import Control
from optduel.components.train.loop.loop import train
from optduel.components.train.contract.task import Task

class StopAt(Control):
    def __init__(self, phase, step):
        super().__init__(None)
        self._at = phase, step

    def report(self, phase, step):
        super().report(phase, step)
        if self._at[0] == phase and step >= self._at[1]:
            self._stop.set()

tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(1)
task = decode(Task, sys.argv[1], "task")
steps = []
for phase, step in json.loads(sys.argv[2]):
    control = StopAt(phase, step)
    try:
        train(task, tf.distribute.get_strategy(), control)
    except StoppedError:
        steps.append(control.progress.step)
print(json.dumps(steps))
"""
"""Trains a task, stopping at each of the given moments, and tells the steps that it stopped at."""


@pytest.fixture
def train_with_stops(forking_python: str) -> TrainWithStops:
    def run(task: Task, stops: list[tuple[str, int]]) -> list[int]:
        done = subprocess.run(
            [forking_python, "-c", STOPPED, task.canonical_json(), json.dumps(stops)],
            check=True,
            timeout=240,
            stdout=subprocess.PIPE,
            text=True,
        )
        stopped: list[int] = json.loads(done.stdout)
        return stopped

    return run


def test_checkpoints_before_and_after_validation_are_not_taken_for_one(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the same step and the same name; workers that read different ones would never meet."""
    told: list[str] = []

    def disagree(_: tf.distribute.Strategy, text: str) -> bool:
        told.append(text)
        return False

    monkeypatch.setattr(loop, "is_agreed", disagree)
    monkeypatch.setattr(bench, "named_variables", lambda *_: {})
    for epochs in (0, 1):
        state = State(step=20, epochs=epochs).to_json(0.0)
        found = Checkpoint(20, "trial", {}, state)
        monkeypatch.setattr(loop.checkpoint, "latest", lambda *_, found=found: found)
        with pytest.raises(LaunchError, match=rf"here step 20, {epochs} epochs done"):
            loop.train(make_task("trial"), tf.distribute.get_strategy(), Control(None))
    assert told[0] != told[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "model"),
    [
        pytest.param(ADAMW, CNN, id="adamw-cnn"),
        pytest.param(SGD, TUTORIAL, id="sgd-tutorial", marks=pytest.mark.exhaustive),
    ],
)
def test_trial_stopped_at_random_steps_has_the_history_of_one_that_was_not(
    arm: object,
    model: object,
    make_task: MakeTask,
    run_task: RunTask,
    train_with_stops: TrainWithStops,
) -> None:
    """Within an interval of the history, at a row, at an epoch's end, while it validates: the same bits."""
    whole = make_task("whole", arm, model)
    expected = run_task(whole)

    stopped = make_task("stopped", arm, model)
    chance = random.Random(7)
    stops = sorted(chance.sample(range(1, 40), 5))
    moments = [("training", step) for step in stops] + [("validating", 40)]
    steps = train_with_stops(stopped, moments)
    assert len(steps) == len(moments), "every stop must have happened"
    assert steps == sorted(steps)
    assert steps[-1] == 40
    assert not Path(stopped.record_file).exists()

    assert reproducible(run_task(stopped)) == reproducible(expected)
    weights = [keras.saving.load_model(task.model_file).get_weights() for task in (whole, stopped)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_trial_goes_on_with_another_number_of_workers(
    make_task: MakeTask, run_task: RunTask, train_with_stops: TrainWithStops
) -> None:
    expected = run_task(make_task("whole", ADAMW, CNN))
    begun = make_task("begun", ADAMW, CNN)
    (step,) = train_with_stops(begun, [("training", 25)])
    assert 25 <= step < 40
    by_two = make_task("begun", ADAMW, CNN, workers=2)
    assert largest_deviation(expected, run_task(by_two)) < 1e-5


@pytest.mark.slow
def test_checkpoints_fall_within_epochs(make_task: MakeTask, run_task: RunTask) -> None:
    """By steps, and by time; the newest are kept."""
    by_steps = make_task("steps", compute={"checkpoint_steps": 8, "checkpoints_kept": 100})
    run_task(by_steps)
    names = sorted(path.name for path in Path(by_steps.checkpoint_folder).iterdir())
    assert names == [f"step-{step:010d}.npz" for step in (8, 16, 20, 24, 32, 40, 48, 56, 60)]

    by_time = make_task("time", compute={"checkpoint_seconds": 1e-6, "checkpoints_kept": 100})
    rows = run_task(by_time)
    within_epochs = [
        path for path in Path(by_time.checkpoint_folder).iterdir() if int(path.stem.partition("-")[2]) % 20
    ]
    assert within_epochs
    assert reproducible(rows) == reproducible(read_history(by_steps.history_file))

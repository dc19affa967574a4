"""How a trial ends before its time: what is saved then, and what must not be."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from optduel.components.core import StoppedError
from optduel.components.results import (
    Divergence,
    TrainingRecord,
    read_document,
    read_history,
    read_training_end,
)
from optduel.components.train.contract.control import Control
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from optduel.components.train.loop import loop
from optduel.components.train.loop.checkpoint import Checkpoint
from tests.train.checkpoints import newest, whole_state
from tests.train.conftest import ADAMW, SGD, TUTORIAL, reproducible
from tests.train.processes import script

MakeTask = Callable[..., Task]


class StopAt(Control):
    """Asks for a stop when a phase has come to a step."""

    def __init__(self, phase: str, step: int) -> None:
        super().__init__(None)
        self._at = phase, step

    def report(self, phase: str, step: int) -> None:
        super().report(phase, step)
        if self._at[0] == phase and step >= self._at[1]:
            self._stop.set()


def train(task: Task, control: Control | None = None) -> None:
    loop.train(task, tf.distribute.get_strategy(), control or Control(None))


def stopped_after(task: Task, phase: str, step: int) -> int:
    """Trains up to there; the step after which the trial says that it is saved."""
    with pytest.raises(StoppedError) as stopped:
        train(task, StopAt(phase, step))
    found = re.search(r"saved after step (\d+)$", str(stopped.value))
    assert found
    return int(found[1])


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "step"), [("training", 25), ("validating", 20)])
def test_a_trial_goes_on_from_the_very_step_at_which_it_was_stopped(
    phase: str, step: int, make_task: MakeTask, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing between two checkpoints is done twice; weights, slots and history are what they would be."""
    linear = {"name": "linear"}
    undisturbed = make_task("undisturbed", ADAMW, linear, compute={"checkpoints_kept": 1})
    train(undisturbed)

    task = make_task("stopped", ADAMW, linear, compute={"checkpoints_kept": 1})
    saved = stopped_after(task, phase, step)
    assert saved >= step
    assert newest(task).step == saved
    capfd.readouterr()
    train(task)
    assert f"goes on after step {saved} of 60" in capfd.readouterr().err
    assert whole_state(task) == whole_state(undisturbed)
    assert reproducible(read_history(task.history_file)) == reproducible(
        read_history(undisturbed.history_file)
    )


EXPLOSIVE = SGD | {"learning_rate": {"schedule": "constant", "base": 1e12}}
"""A step later the network's products overflow, while each weight and the norm of all are still finite."""


def diverged(task: Task) -> Divergence:
    """Trains; a divergence is a result, and no error."""
    train(task)
    record = read_training_end(task.record_file)
    assert isinstance(record, Divergence)
    assert record.fingerprint == task.fingerprint
    assert not Path(task.model_file).exists()
    return record


def assert_finite(saved: Checkpoint) -> None:
    for name, array in saved.arrays.items():
        assert np.isfinite(array).all(), name


@pytest.mark.slow
def test_the_first_step_that_is_not_finite_ends_the_trial_and_is_not_saved(
    make_task: MakeTask, capfd: pytest.CaptureFixture[str]
) -> None:
    task = make_task("explosive", EXPLOSIVE, TUTORIAL, compute={"checkpoint_steps": 1, "checkpoints_kept": 9})
    told = diverged(task)
    assert (told.reason, told.step, told.epoch) == ("loss or gradient", 2, 1)
    assert told.text == "loss or gradient not finite at step 2, in epoch 1"
    printed = capfd.readouterr().err
    assert (
        f"diverged, and ends here: {told.text}; where that was not expected, lower learning_rate" in printed
    )
    assert read_history(task.history_file) == ()
    assert newest(task).step == 1
    assert_finite(newest(task))
    # Whoever runs it again sees the same, at the same step.
    again = diverged(task)
    assert (again.reason, again.step, again.epoch) == (told.reason, told.step, told.epoch)


@pytest.mark.slow
def test_a_validation_that_is_not_finite_ends_the_trial(make_task: MakeTask) -> None:
    task = make_task("explosive", EXPLOSIVE, TUTORIAL, global_batch_size=2000)
    told = diverged(task)
    assert (told.reason, told.step, told.epoch) == ("validation loss", 1, 1)
    (step,) = read_history(task.history_file)
    assert step.step == 1, "what was finite is kept"
    assert list(Path(task.checkpoint_folder).glob("*")) == []


@pytest.mark.slow
def test_weights_that_a_finite_step_has_made_infinite_are_not_saved(make_task: MakeTask) -> None:
    """A step's loss and gradient are those of the weights before it."""
    arm = SGD | {"learning_rate": {"schedule": "constant", "base": 1e38}}
    task = make_task("overflow", arm, {"name": "linear"}, compute={"checkpoint_steps": 1})
    told = diverged(task)
    assert (told.reason, told.step, told.epoch) == ("weight norm", 1, 1)
    assert list(Path(task.checkpoint_folder).glob("*")) == []


@pytest.mark.slow
def test_a_trial_of_precision_auto_stays_in_the_precision_in_which_it_began(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another kind of node would choose another one: the numbers of the trial are those of one."""

    def on(precision: str) -> Any:
        monkeypatch.setattr(loop, "resolve_precision", lambda *_: precision)

    options: dict[str, Any] = {"model": {"name": "linear"}, "precision": "auto", "epochs": 2}
    on("mixed_bfloat16")
    undisturbed, task = make_task("undisturbed", **options), make_task("moved", **options)
    train(undisturbed)
    stopped_after(task, "training", 7)
    on("float32")
    capfd.readouterr()
    train(task)
    told = capfd.readouterr().err
    assert "began in mixed_bfloat16 and stays there; auto is float32 here" in told
    assert read_document(task.record_file, TrainingRecord).precision == "mixed_bfloat16"
    assert whole_state(task) == whole_state(undisturbed)


MIXED_WORKER = """
from optduel.components.train.worker import worker
sys.executable = {trainer!r}
worker.main(sys.argv[-1:])
"""

MIXED_TRAINER = """
from optduel.components.train.model import precision
from optduel.components.train.worker import trainer
precision.choose_precision = lambda *_: "float32" if index else "mixed_bfloat16"
trainer.main(sys.argv[-1:])
"""


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_group_of_mixed_machines_takes_the_precision_that_suits_all(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = script(tmp_path / "trainer", MIXED_TRAINER)
    monkeypatch.setattr(sys, "executable", script(tmp_path / "worker", MIXED_WORKER.format(trainer=trainer)))
    task = make_task("mixed", model={"name": "linear"}, workers=2, precision="auto", epochs=1)
    LocalLauncher().run(task)
    assert read_document(task.record_file, TrainingRecord).precision == "float32"

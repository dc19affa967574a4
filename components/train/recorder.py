"""What the chief leaves behind while a trial trains: history, events, checkpoints, a line an epoch."""

import shutil
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from components.core.history import Row, epochs_of, write_history
from components.core.narration import say, seconds_in_words
from components.train.checkpoint import BackgroundWriter, Checkpoint
from components.train.task import Task

HISTORY_SECONDS = 2.0
"""Between two writings of the history within an epoch."""

MEASURES = (
    "cross_entropy",
    "penalty",
    "total",
    "accuracy",
    "learning_rate",
    "decay",
    "gradient_norm",
    "weight_norm",
    "examples_per_second",
)
"""Columns of the history that TensorBoard shows, as "step" or "epoch"/column/split."""

# What tf.summary.scalar would write; that function needs TensorBoard itself to be installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    data_class=1, plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
)


class Recorder:
    """Writes what a trial's chief has to write.

    Args:
        task: the trial.
        identity: of its checkpoints.
        rows: the history so far, of a trial that goes on.
    """

    def __init__(self, task: Task, identity: str, rows: list[Row]) -> None:
        self._task = task
        self._identity = identity
        self._checkpoints = BackgroundWriter(task.checkpoint_folder, task.compute.checkpoints_kept)
        self._checkpoint_clock = self._history_clock = time.monotonic()
        # Events of an attempt that was killed hold steps that come again, so all are written anew.
        shutil.rmtree(task.events_folder, ignore_errors=True)
        self._events = tf.summary.create_file_writer(str(task.events_folder))
        self._add_events(rows)

    def record(self, rows: list[Row], new: int) -> None:
        """Makes the last `new` of all rows visible: at an epoch's end at once, else every few seconds."""
        self._add_events(rows[-new:])
        if rows[-1].event == "epoch" or time.monotonic() > self._history_clock + HISTORY_SECONDS:
            write_history(self._task.history_file, rows)
            self._history_clock = time.monotonic()

    def is_checkpoint_due(self, step: int) -> bool:
        """Whether the task wants a checkpoint after this step or by this time."""
        every = self._task.compute.checkpoint_steps
        age = time.monotonic() - self._checkpoint_clock
        return bool(every and step % every == 0) or age >= self._task.compute.checkpoint_seconds

    def save(self, step: int, variables: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Takes a copy of all variables and saves it while training goes on."""
        arrays = {name: variable.numpy() for name, variable in variables.items()}
        self._checkpoints.save(Checkpoint(step, self._identity, arrays, state))
        self._checkpoint_clock = time.monotonic()

    def wait(self) -> None:
        """Returns when all is on disk."""
        self._checkpoints.wait()
        self._events.flush()

    def tell_epoch(self, rows: list[Row], seconds_left: float) -> None:
        """Prints the line of the epoch that has ended."""
        trained, validated = epochs_of(rows[-2:], "train")[0], epochs_of(rows[-2:], "validation")[0]
        say(
            f"train {self._task.name}: epoch {trained.epoch}/{self._task.training.epochs}"
            f"  loss {trained.cross_entropy:.4f} + penalty {trained.penalty:.4f},"
            f" accuracy {trained.accuracy:.1%}"
            f"  validation {validated.cross_entropy:.4f}, {validated.accuracy:.1%}"
            f"  {trained.examples_per_second:,.0f} examples/s, {seconds_in_words(seconds_left)} left"
        )

    def _add_events(self, rows: list[Row]) -> None:
        with self._events.as_default():
            for row in rows:
                for measure in MEASURES:
                    tag = f"{row.event}/{measure}/{row.split}"
                    tf.summary.write(tag, tf.constant(getattr(row, measure)), row.step, metadata=_SCALAR)

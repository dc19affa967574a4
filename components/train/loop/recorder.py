"""What the chief leaves behind while a trial trains: history, events, checkpoints, a line an epoch.

All of it is written in the background: a store takes its time, and training does not wait for it unless
checkpoints come faster than they can be saved.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from optduel.components.core.narration import say, seconds_in_words
from optduel.components.results.history import Row, epochs_of, write_history
from optduel.components.storage.location import is_remote
from optduel.components.storage.objects import delete_unfinished
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import checkpoint
from optduel.components.train.loop.background import Background
from optduel.components.train.loop.checkpoint import Checkpoint
from optduel.components.train.loop.tensorboard import Events

HISTORY_SECONDS = 2.0
"""Between two writings of the history within an epoch, and always in a store: Cloud Storage takes one write
of an object a second (https://cloud.google.com/storage/quotas)."""


class Recorder:
    """Writes what a trial's chief has to write, and removes what an earlier chief that was killed left half.

    Args:
        task: the trial.
        identity: of its checkpoints.
        rows: the history so far, of a trial that goes on.
        scratch: a local folder for what goes to a store.

    Raises:
        StorageError: the task's output cannot be written.
    """

    def __init__(self, task: Task, identity: str, rows: list[Row], scratch: Path) -> None:
        self._task = task
        self._identity = identity
        self._saving, self._showing = Background("checkpoint"), Background("history")
        delete_unfinished(task.output)
        self._events = Events(task.events_folder, scratch, rows)
        self._checkpoint_clock = self._history_clock = time.monotonic()

    def record(self, rows: list[Row], new: int) -> None:
        """Takes the last `new` of all rows, and makes all visible if it is time: at an epoch's end, or later.

        What falls due while the last writing is still under way comes with the next one. Raises StorageError
        where an earlier one has failed.
        """
        self._events.add(rows[-new:])
        is_epoch = rows[-1].event == "epoch" and not is_remote(self._task.output)
        is_due = is_epoch or time.monotonic() > self._history_clock + HISTORY_SECONDS
        if is_due and not self._showing.is_busy:
            self._showing.begin(partial(self._show, list(rows)))
            self._history_clock = time.monotonic()

    def is_checkpoint_due(self, step: int) -> bool:
        """Whether the task wants a checkpoint after this step or by this time."""
        every = self._task.compute.checkpoint_steps
        age = time.monotonic() - self._checkpoint_clock
        return bool(every and step % every == 0) or age >= self._task.compute.checkpoint_seconds

    def save(self, step: int, variables: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Takes a copy of all variables and saves it while training goes on, once the one before is saved.

        Raises StorageError where that one could not be.
        """
        arrays = {name: variable.numpy() for name, variable in variables.items()}
        saved = Checkpoint(step, self._identity, arrays, state)
        folder, kept = self._task.checkpoint_folder, self._task.compute.checkpoints_kept
        self._saving.begin(partial(checkpoint.save, folder, saved, kept))
        self._checkpoint_clock = time.monotonic()

    def finish(self, rows: list[Row]) -> None:
        """Returns when all is written, history included. Raises StorageError where it cannot be."""
        self._saving.wait()
        self._showing.begin(partial(self._show, list(rows)))
        self._showing.wait()

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

    def _show(self, rows: list[Row]) -> None:
        write_history(self._task.history_file, rows)
        self._events.publish()

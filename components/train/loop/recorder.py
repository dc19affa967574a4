"""What the chief leaves behind while a trial trains: history, events, checkpoints, a line an epoch.

All of it is written in the background: a store takes its time, and training does not wait for it unless
checkpoints come faster than they can be saved.
"""

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from optduel.components.core import RefusedError, StorageError, say, seconds_in_words
from optduel.components.results import Row, epochs_of, write_history
from optduel.components.storage import (
    Upload,
    delete,
    delete_unfinished,
    is_remote,
    join,
    list_entries,
    local_path,
    upload,
)
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import checkpoint
from optduel.components.train.loop.checkpoint import Checkpoint

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
        # Hundreds of settings that are tuned would only crowd TensorBoard.
        self._events = Events(task.events_folder, scratch, rows) if task.setting is None else None
        self._checkpoint_clock = self._history_clock = time.monotonic()

    def record(self, rows: list[Row], new: int) -> None:
        """Takes the last `new` of all rows, and makes all visible if it is time: at an epoch's end, or later.

        What falls due while the last writing is still under way comes with the next one. Raises StorageError
        where an earlier one has failed.
        """
        if self._events:
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

    def save(
        self,
        step: int,
        variables: Mapping[str, Any],
        kept: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
    ) -> None:
        """Takes a copy of all variables and saves it while training goes on, once the one before is saved.

        Args:
            step: optimizer steps done.
            variables: by name.
            kept: arrays that are saved beside them.
            state: as `Checkpoint` has it.

        Raises StorageError where that one could not be.
        """
        arrays = {name: variable.numpy() for name, variable in variables.items()} | dict(kept)
        saved = Checkpoint(step, self._identity, arrays, state)
        folder, count = self._task.checkpoint_folder, self._task.compute.checkpoints_kept
        self._saving.begin(partial(checkpoint.save, folder, saved, count))
        self._checkpoint_clock = time.monotonic()

    def finish(self, rows: list[Row]) -> None:
        """Returns when all is written, history included. Raises StorageError where it cannot be."""
        self._saving.end()
        self._showing.begin(partial(self._show, list(rows)))
        self._showing.end()

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
        if self._events:
            self._events.publish()


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


_REFUSALS = (tf.errors.PermissionDeniedError, tf.errors.NotFoundError)
"""What TensorFlow raises where a place refuses every time."""


class Events:
    """Writes events. TensorFlow appends them to a local file; a store is given that file whole, as it grows.

    Args:
        place: the folder that TensorBoard is pointed at, a path or a URI.
        scratch: a local folder for what goes to a store.
        rows: the history so far, of a trial that goes on.

    Raises:
        StorageError: the place cannot be written.
    """

    def __init__(self, place: str, scratch: Path, rows: Sequence[Row]) -> None:
        # Events of an attempt that was killed hold steps that come again, so all are written anew.
        for entry in list_entries(place):
            delete(entry.uri)
        self._place = place
        self._folder = scratch / "tensorboard" if is_remote(place) else local_path(place)
        self._writer = tf.summary.create_file_writer(str(self._folder))
        self.add(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Takes further rows of the history. Raises StorageError where they cannot be written."""
        with self._in_our_words(), self._writer.as_default():
            for row in rows:
                for measure in MEASURES:
                    tag = f"{row.event}/{measure}/{row.split}"
                    tf.summary.write(tag, tf.constant(getattr(row, measure)), row.step, metadata=_SCALAR)

    def publish(self) -> None:
        """Makes all that was added visible. Raises StorageError where the place cannot be written."""
        with self._in_our_words():
            self._writer.flush()
        if is_remote(self._place):
            files = sorted(self._folder.iterdir())
            upload([Upload(file, join(self._place, file.name)) for file in files])

    @contextlib.contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """TensorFlow's message: in the first line its graph, the file, and last the system's own word."""
        try:
            yield
        except tf.errors.OpError as error:
            cause = str(error.message).partition("\n")[0].partition(" [Op:")[0].rpartition("; ")[2]
            kind = RefusedError if isinstance(error, _REFUSALS) else StorageError
            raise kind(
                f"{self._folder}: {cause}; free some space or choose another place with --root"
            ) from error


class Background:
    """Does one job at a time, in a thread; what fails there is raised where the next job is given.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
        self._last: concurrent.futures.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the last job is still under way."""
        return self._last is not None and not self._last.done()

    def begin(self, job: Callable[[], None]) -> None:
        """Begins a job, once the one before is done. Raises what that one raised."""
        self.wait()
        self._last = self._executor.submit(job)

    def end(self) -> None:
        """Ends the thread when the last job is done. Raises what that one raised."""
        self.wait()
        self._executor.shutdown()

    def wait(self, seconds: float | None = None) -> None:
        """Returns when the last job is done. Raises what it raised.

        Args:
            seconds: at most.

        Raises:
            TimeoutError: it is not done by then.
        """
        if self._last:
            self._last.result(seconds)

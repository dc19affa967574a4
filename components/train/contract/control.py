"""What a training process and its supervisor tell each other: progress one way, a request to stop the other.

Progress is a file of fixed size, written in place: it can be read while either process hangs, needs no
room on a full disk, and blocks nobody. The request to stop comes over standard input, because TensorFlow
swallows SIGTERM.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from optduel.components.core import LaunchError
from optduel.components.storage import as_storage_error

PROGRESS_VARIABLE = "OPTDUEL_PROGRESS"
"""Names the file that a training process reports its progress to."""

STARTING = "starting"
"""The phase of all that comes before the first step; from the next phase on, the progress deadline holds."""

STAGING = "staging"
"""The phase in which shards arrive that the first step needs."""

STOP = b"stop\n"
"""The request to stop, on the training process's standard input."""

_RECORD_BYTES = 64


@dataclass(frozen=True)
class Progress:
    """Where a training process is.

    Attributes:
        phase: in a word: "starting", "training", "validating", ...
        step: optimizer steps done.
        count: reports so far, so that two reports of the same phase and step differ.
    """

    phase: str
    step: int
    count: int = 0

    def __str__(self) -> str:
        return f"while {self.phase}, after step {self.step}"


class ProgressFile:
    """The file between a training process, its supervisor and its launcher.

    Its first half is the training process's Progress; in its second half the supervisor counts up, so that
    a launcher sees whether the supervisor itself is alive.

    Args:
        path: where it is, or will be: whoever comes first makes it.

    Raises:
        StorageError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._descriptor).st_size == 0:
                os.pwrite(self._descriptor, b" " * 2 * _RECORD_BYTES, 0)
        except OSError as error:
            raise as_storage_error(error, path) from error

    def close(self) -> None:
        """Gives the descriptor back; the file stays."""
        os.close(self._descriptor)

    def report(self, progress: Progress) -> None:
        """Replaces the training process's progress."""
        self._write(f"{progress.count} {progress.step} {progress.phase}", 0)

    def beat(self, count: int) -> None:
        """Replaces the supervisor's count."""
        self._write(str(count), _RECORD_BYTES)

    def progress(self) -> Progress:
        """The last report; before the first one: starting, no step."""
        count, _, rest = os.pread(self._descriptor, _RECORD_BYTES, 0).decode().strip().partition(" ")
        step, _, phase = rest.partition(" ")
        return Progress(phase, int(step), int(count)) if count else Progress(STARTING, 0)

    def beats(self) -> int:
        """The supervisor's count; 0 before its first."""
        return int(os.pread(self._descriptor, _RECORD_BYTES, _RECORD_BYTES).strip() or 0)

    def _write(self, text: str, offset: int) -> None:
        # One write of a whole record within a page: a reader sees the old record or the new one.
        os.pwrite(self._descriptor, text.ljust(_RECORD_BYTES)[:_RECORD_BYTES].encode(), offset)


class Control:
    """The training process's end.

    Args:
        path: of the progress file; None where nobody supervises.

    Attributes:
        steps_before: of earlier trials of the same workers: steps count on from one to the next.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = ProgressFile(path) if path else None
        self._stop = threading.Event()
        self.progress = Progress(STARTING, 0)
        self.steps_before = 0

    @property
    def is_stop_requested(self) -> bool:
        """Whether the supervisor asked for a stop: all workers agree on a step, save there, and end."""
        return self._stop.is_set()

    def report(self, phase: str, step: int) -> None:
        """Tells the supervisor that work goes on.

        Args:
            phase: in a word.
            step: optimizer steps done of this trial.
        """
        self.progress = Progress(phase, self.steps_before + step, self.progress.count + 1)
        if self._file:
            self._file.report(self.progress)

    def follow(self, descriptor: int) -> None:
        """Takes the supervisor's request from a pipe, in a thread; ends this process with the supervisor.

        Args:
            descriptor: the reading end, standard input as a rule.
        """
        threading.Thread(target=self._follow, args=(descriptor,), name="supervisor", daemon=True).start()

    def _follow(self, descriptor: int) -> None:
        # Not sys.stdin: its lock, held by a thread that waits, would disturb the interpreter's end.
        while received := os.read(descriptor, 4096):
            if STOP in received:
                self._stop.set()
        os._exit(LaunchError.worker_exit_code)

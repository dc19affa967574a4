"""A worker as a process of this host: its environment, its output, its progress and its end."""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from optduel.components.core import (
    TERMINATION_LOG_VARIABLE,
    LaunchError,
    OptduelError,
    StoppedError,
    read_termination,
)
from optduel.components.train.contract.control import PROGRESS_VARIABLE, STARTING, Progress, ProgressFile
from optduel.components.train.contract.outcome import last_words
from optduel.components.train.contract.task import Task
from optduel.components.train.worker.group import INDEX_VARIABLE, PEERS_VARIABLE
from optduel.components.train.worker.supervisor import LAUNCHER_VARIABLE

FROZEN_SECONDS = 15.0
"""A supervisor shows itself every second; one that has not for so long is stopped or cut off."""

_OUTPUT_SECONDS = 10.0

_KEPT_LINES = 100
"""Of a worker's output, for the message of one that ends without a report."""


class LocalWorker:
    """Starts a worker; its lines come out on standard error, with its number where it is not the chief.

    Args:
        task: what it trains.
        index: which worker of the group it is.
        addresses: of all workers in order.
        command: that starts it.
        folder: for its report and its progress.

    Raises:
        LaunchError: the command cannot be run.
    """

    def __init__(
        self, task: Task, index: int, addresses: Sequence[str], command: Sequence[str], folder: Path
    ) -> None:
        self._compute = task.compute
        self._name = f"train {task.name}: worker {index} of {len(addresses)}"
        self._termination_log = folder / f"termination-{index}.json"
        self._file = ProgressFile(folder / f"progress-{index}")
        environment = {
            **os.environ,
            TERMINATION_LOG_VARIABLE: str(self._termination_log),
            PROGRESS_VARIABLE: str(folder / f"progress-{index}"),
            LAUNCHER_VARIABLE: str(os.getpid()),
            PEERS_VARIABLE: ",".join(addresses),
            INDEX_VARIABLE: str(index),
        }
        try:
            # In a session of its own: the keyboard interrupts the launcher only, which passes it on.
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            self.close()
            raise LaunchError(f"{self._name}: {command[0]} cannot be run ({error.strerror})") from error
        self._printed: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._pump = threading.Thread(target=self._pass_on, args=(index,), daemon=True)
        self._pump.start()
        self._started = time.monotonic()
        self._last, self._changed = self.progress, self._started
        self._beats, self._beaten = 0, self._started

    @property
    def progress(self) -> Progress:
        """Where its training process is."""
        return self._file.progress()

    def overdue(self, margin: float) -> str:
        """Why it has to be ended; nothing while it keeps its deadlines.

        Args:
            margin: seconds beyond the deadlines that its own supervisor keeps: it may be stopped or stuck.
        """
        progress, beats, now = self.progress, self._file.beats(), time.monotonic()
        if progress != self._last:
            self._last, self._changed = progress, now
        if beats != self._beats:
            self._beats, self._beaten = beats, now
        if beats and now - self._beaten > FROZEN_SECONDS:
            return f"{self._name}: frozen: its supervisor gave no sign for {FROZEN_SECONDS:g} s, {progress}"
        # Its peers may take as long, before its training process begins.
        if progress.phase == STARTING and now - self._started > 2 * self._compute.start_seconds + margin:
            return (
                f"{self._name}: did not start within twice compute.start_seconds = "
                f"{self._compute.start_seconds:g}"
            )
        if progress.phase != STARTING and now - self._changed > self._compute.progress_seconds + margin:
            return (
                f"{self._name}: hangs: no progress within compute.progress_seconds = "
                f"{self._compute.progress_seconds:g}, {progress}"
            )
        return ""

    def silent(self) -> LaunchError:
        """What to tell of it when its peers have lost a worker, and it has not ended itself."""
        where = f"{self._name}: its peers have lost it, {self.progress}"
        return LaunchError(f"{where}: too slow, frozen or cut off")

    def error(self, code: int) -> OptduelError:
        """What it reported, or how it ended.

        Args:
            code: its exit code, negative for a signal.
        """
        if told := read_termination(self._termination_log):
            return told
        if code in (-signal.SIGTERM, -signal.SIGINT, StoppedError.worker_exit_code):
            return StoppedError(f"{self._name}: stopped before it began; nothing was lost")
        manner = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        self._pump.join(_OUTPUT_SECONDS)
        words = last_words("".join(self._printed))
        return LaunchError(f"{self._name} {manner}, {self.progress}{f': {words}' if words else ''}")

    def ask_to_stop(self) -> None:
        """Sends SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Kills it, also when it is stopped; its training process depends on it and goes with it."""
        self.process.kill()
        self.process.wait()
        # The output ends when the last process that could write to it has ended.
        self._pump.join(_OUTPUT_SECONDS)

    def close(self) -> None:
        """Gives back what the launcher held of it."""
        self._file.close()

    def _pass_on(self, index: int) -> None:
        if self.process.stdout is None:
            return
        prefix = f"worker {index} | " if index else ""
        with self.process.stdout as lines:
            for line in lines:
                self._printed.append(line)
                # Whoever read our output may be gone; the worker must not wait for that.
                with contextlib.suppress(BrokenPipeError, ValueError):
                    sys.stderr.write(f"{prefix}{line}")
                    sys.stderr.flush()

"""The tasks of a local run: ends them when the run is to stop, and begins none after that or after a failure.

KFP's local runner has no way to stop: an exception waits until every task that it has queued has run.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Protocol

from kfp.local import subprocess_task_handler

from optduel.components.core import LaunchError
from optduel.components.train.contract.outcome import last_words
from optduel.pipeline.local.scratch import scratch_folder


class RunningTask(Protocol):
    """What executes a task.

    Attributes:
        last_words: see `pass_on`.
    """

    last_words: str

    def wait(self) -> int:
        """Passes on what the task says until it has ended; returns its exit code. Never leaves it running."""

    def stop(self) -> None:
        """Asks it to end."""

    def kill(self) -> None:
        """Ends it at once."""


_LAST_LINES = 400
"""Of a task are looked through for its last words: libraries' tracebacks are long."""


def pass_on(lines: Iterable[str]) -> str:
    """Writes what a task says to standard output, and returns its last words, see `last_words`."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    for line in lines:
        sys.stdout.write(line)
        last.append(line)
    return last_words("".join(last))


class LocalTasks:
    """Runs tasks, several at a time from as many threads.

    Attributes:
        last_words: of the first task that failed; empty while none has.
    """

    def __init__(self) -> None:
        self.last_words = ""
        self._lock = threading.Lock()
        self._running: set[RunningTask] = set()
        self._has_ended = False

    def run(self, begin: Callable[[], RunningTask]) -> int:
        """Runs one task; returns its exit code, 75 where it was not begun."""
        with self._lock:
            if self._has_ended:
                sys.stdout.write("not begun: another task has failed, or the run is stopped\n")
                return LaunchError.worker_exit_code
            task = begin()
            self._running.add(task)
        code = 1
        try:
            code = task.wait()
        finally:
            with self._lock:
                self._running.discard(task)
                if code and not self._has_ended:
                    self._has_ended, self.last_words = True, task.last_words or f"exit code {code}"
        return code

    def stop(self) -> None:
        """Asks all tasks to end, and begins none from now on."""
        with self._lock:
            self._has_ended = True
            for task in self._running:
                task.stop()

    def kill(self) -> None:
        """Ends all tasks at once, and begins none from now on."""
        with self._lock:
            self._has_ended = True
            for task in self._running:
                task.kill()


@contextlib.contextmanager
def replaced(module: ModuleType, name: str, function: Callable[..., object]) -> Iterator[None]:
    """Has KFP use a function of ours instead of its own."""
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def in_processes(tasks: LocalTasks) -> Iterator[None]:
    """Has KFP's SubprocessRunner execute tasks in process groups of their own, which can be stopped.

    Tasks import nothing from the current folder, where a user's `random.py` or `numpy.py` may lie.
    """
    # KFP's command leaves a temporary folder behind for every task.
    with scratch_folder() as scratch:

        def run(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
            environment = {**os.environ, **(env_vars or {}), "PYTHONSAFEPATH": "1", "TMPDIR": str(scratch)}
            return tasks.run(lambda: _Process(full_command, environment))

        # KFP puts the interpreter's path into a line of shell as it is: unquoted.
        place_python = subprocess_task_handler.replace_python_executable

        def place_quoted(full_command: list[str], executable: str) -> list[str]:
            command: list[str] = place_python(full_command, shlex.quote(executable))
            return command

        handler = subprocess_task_handler
        with (
            replaced(handler, "replace_python_executable", place_quoted),
            replaced(handler, "run_local_subprocess", run),
        ):
            yield


_GUARDED = """
exec 3<&0 </dev/null
(trap "" HUP INT TERM; read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""
"""Shell that runs a command in its place, and ends its process group when standard input ends.

It is a pipe whose other end this process holds, so it ends with us, however we die. Linux has
PR_SET_PDEATHSIG for this, but it also ends a task with the thread that started it, and macOS has nothing
like it.
"""


class _Process:
    last_words = ""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A group of its own: the task is a shell's child, and the keyboard shall interrupt only us.
        self._process = subprocess.Popen(
            ["sh", "-c", _GUARDED, "sh", *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )

    def wait(self) -> int:
        with self._process as process:
            try:
                self.last_words = pass_on(process.stdout or ())
                return process.wait()
            finally:
                # The guard; and the task too where nobody would look after it any more.
                self.kill()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

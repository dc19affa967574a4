"""A launcher with real workers, seen and hurt from outside: by /proc, progress files and signals."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optduel.components.results import read_history
from optduel.components.train.contract.control import Progress, ProgressFile
from optduel.components.train.contract.task import Task
from tests.train.checkpoints import whole_state
from tests.train.conftest import reproducible
from tests.train.processes import is_running

CASE_SECONDS = 900.0
"""Nothing may take longer, whatever happened: a case that does is a hang."""

LAUNCHER = """
import sys
from optduel.components.settings.authoring import decode
from optduel.components.core.errors import exit_on_error
from optduel.components.train.local.local_launcher import LocalLauncher
from optduel.components.train.contract.task import Task
with exit_on_error("train"):
    LocalLauncher().run(decode(Task, sys.argv[1], "task"))
"""


@dataclass(frozen=True)
class Fault:
    """A signal at a moment that progress decides, so that a case can be replayed.

    Attributes:
        number: the signal.
        target: which process of the worker gets it.
        worker: which worker.
        phase: what the chief is at: "starting", "training", "saving" or "validating".
        step: and after which step at the earliest.
        delay: seconds from that moment, to fall at any point of what is being done.
    """

    number: signal.Signals
    target: str
    worker: int
    phase: str
    step: int
    delay: float


class Group:
    """A launched task; its processes end with the `with` block.

    Attributes:
        process: the launcher.
        lines: what was printed so far, each with its time.
    """

    def __init__(self, task: Task, python: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", LAUNCHER, task.canonical_json()], stderr=subprocess.PIPE, text=True
        )
        self.lines: list[tuple[float, str]] = []
        self._deadline = time.monotonic() + CASE_SECONDS
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def restarts(self) -> list[float]:
        """When the launcher said that it starts again."""
        return [when for when, line in self.lines if "All workers start again" in line]

    def inject(self, fault: Fault) -> float:
        """Waits for the fault's moment and sends its signal; returns when that was."""
        supervisor, trainer, progress = self._moment(fault)
        time.sleep(fault.delay)
        target = supervisor if fault.target == "supervisor" else trainer
        assert is_running(target), f"{fault} came too late, after {progress}"
        os.kill(target, fault.number)
        return time.monotonic()

    def wait_for_step(self, step: int) -> None:
        """Returns when the chief has done so many steps."""
        while True:
            self._go_on()
            assert self.process.poll() is None, self.text()
            workers = self.workers()
            with contextlib.suppress(FileNotFoundError):
                if 0 in workers and read_progress(workers[0][2]).step >= step:
                    return

    def wait_for_restart(self, count: int) -> float:
        """When the launcher said it for the `count`th time."""
        while len(self.restarts) < count:
            self._go_on()
            assert self.process.poll() is None, self.text()
        return self.restarts[count - 1]

    def wait(self) -> int:
        """The launcher's exit code."""
        while self.process.poll() is None:
            self._go_on()
        self._reader.join(10)
        return self.process.returncode

    def text(self) -> str:
        """All that was printed."""
        return "\n".join(line for _, line in self.lines)

    def workers(self) -> dict[int, tuple[int, int, Path]]:
        """Supervisor, training process and progress file of each worker that has all three."""
        found = {}
        for supervisor in children(self.process.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError, ValueError):
                told = environment(supervisor)
                (trainer,) = children(supervisor)
                index = int(told["OPTDUEL_WORKER_INDEX"])
                found[index] = (supervisor, trainer, Path(told["OPTDUEL_PROGRESS"]))
        return found

    def processes(self) -> list[int]:
        """The launcher's descendants."""
        return [pid for supervisor, trainer, _ in self.workers().values() for pid in (supervisor, trainer)]

    def _moment(self, fault: Fault) -> tuple[int, int, Progress]:
        while True:
            self._go_on()
            assert self.process.poll() is None, f"{fault} came too late:\n{self.text()}"
            workers = self.workers()
            if not {0, fault.worker} <= workers.keys():
                continue
            supervisor, trainer, _ = workers[fault.worker]
            progress = Progress("starting", 0)
            while progress.phase == "starting" or progress.step < fault.step or progress.phase != fault.phase:
                if fault.phase == "starting" and progress.phase == "starting":
                    break
                if not (is_running(trainer) and is_running(supervisor)):
                    break
                time.sleep(0.0005)
                with contextlib.suppress(FileNotFoundError):
                    progress = read_progress(workers[0][2])
            else:
                return supervisor, trainer, progress
            if is_running(trainer) and is_running(supervisor):
                return supervisor, trainer, progress

    def _go_on(self) -> None:
        assert time.monotonic() < self._deadline, f"hangs:\n{self.text()}"
        time.sleep(0.002)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def end(self) -> None:
        """Ends the launcher and, since they depend on it, its workers."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join(20)
        if self.process.stderr:
            self.process.stderr.close()


@contextlib.contextmanager
def launched(task: Task, python: str = sys.executable) -> Iterator[Group]:
    """Launches a task in a process of its own, by an interpreter that its workers are started with, too."""
    group = Group(task, python)
    try:
        yield group
    finally:
        group.end()


def read_progress(path: Path) -> Progress:
    """Where a training process is; raises FileNotFoundError where its attempt is over."""
    if not path.exists():
        raise FileNotFoundError(path)
    file = ProgressFile(path)
    try:
        return file.progress()
    finally:
        file.close()


def children(process: int) -> list[int]:
    """Direct children, in the order of their start."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def environment(process: int) -> dict[str, str]:
    """The environment that a process was started with."""
    entries = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(re.findall(r"([^=]+)=(.*)", entry)[0] for entry in entries if "=" in entry)


def results(task: Task) -> str:
    """A task's history and all that its last checkpoint holds, without times, to be compared bit for bit."""
    return f"{reproducible(read_history(task.history_file))}\n{whole_state(task)}"

"""One attempt of a group of workers on this host: started together, watched, and ended together."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optduel.components.core.errors import (
    LaunchError,
    OptduelError,
    OutOfMemoryError,
    PeerLostError,
    StoppedError,
)
from optduel.components.core.stopping import StopRequest
from optduel.components.train.contract.task import WORKER_MODULE, Task
from optduel.components.train.local.process import LocalWorker

REPORT_SECONDS = 10.0
"""Within it TensorFlow notices a dead peer, and whoever failed for a cause of its own has reported it."""

MARGIN_SECONDS = 5.0
"""What a worker has beyond its supervisor's own deadlines, before its launcher takes it for lost."""

_END_SECONDS = 1.0
_POLL_SECONDS = 0.05
_REPEATABLE = {LaunchError.worker_exit_code, OutOfMemoryError.worker_exit_code, StoppedError.worker_exit_code}


@dataclass(frozen=True)
class End:
    """How a worker ended other than well.

    Attributes:
        code: its exit code; negative for a signal; `LaunchError`'s where the launcher had to end it.
    """

    code: int
    error: OptduelError

    @property
    def may_be_repeated(self) -> bool:
        """Whether another attempt can succeed; a wrong request, bad data or a defect stays what it is."""
        return self.code < 0 or self.code in _REPEATABLE

    @property
    def _rank(self) -> int:
        if not self.may_be_repeated:
            return 0
        if isinstance(self.error, OutOfMemoryError):
            return 1
        # A worker that lost another one tells nothing of the cause, even when it was the first to end.
        return 3 if isinstance(self.error, PeerLostError) else 2


def root_cause(ends: Sequence[End]) -> End:
    """Of several ends, in the order of time, the one that brought the others about."""
    return min(ends, key=lambda end: end._rank)


@dataclass(frozen=True)
class Attempt:
    """What came of an attempt.

    Attributes:
        cause: why it failed; None when every worker has succeeded.
        step: the last optimizer step that a worker has reported.
    """

    cause: End | None
    step: int


def run_attempt(task: Task, task_file: Path, request: StopRequest) -> Attempt:
    """Starts a group on ports of its own and waits for its end; no process of it outlives this call.

    Whoever is not done `REPORT_SECONDS` after the first failure is killed; at once where that failure is
    final, and after `compute.grace_seconds` where a worker was asked to stop and all save together.

    Args:
        task: what to train.
        task_file: the same, for the workers.
        request: to stop, which is passed on to all workers.

    Raises:
        LaunchError: a worker could not be started.
    """
    addresses = _free_addresses(task.compute.workers)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optduel-")))
        group: list[LocalWorker] = []
        stack.callback(_end, group)
        for index in range(len(addresses)):
            command = [sys.executable, "-m", WORKER_MODULE, str(task_file)]
            group.append(LocalWorker(task, index, addresses, command, folder))
        ends = list(_watch(task, group, request))
        step = max(worker.progress.step for worker in group)
    return Attempt(root_cause(ends) if ends else None, step)


def _watch(task: Task, group: Sequence[LocalWorker], request: StopRequest) -> Iterator[End]:
    """Yields the ends that were not well, in the order of time, until all have ended or time is up."""
    running = list(group)
    deadline = float("inf")
    grace = task.compute.grace_seconds + MARGIN_SECONDS
    is_asked = False
    while running and time.monotonic() < deadline:
        if request.is_made and not is_asked:
            is_asked, deadline = True, min(deadline, time.monotonic() + grace)
            for worker in running:
                worker.ask_to_stop()
        for worker in list(running):
            code = worker.process.poll()
            if code is None and not (reason := worker.overdue(MARGIN_SECONDS)):
                continue
            running.remove(worker)
            if code == 0:
                continue
            if code is None:
                worker.kill()
                end = End(LaunchError.worker_exit_code, LaunchError(reason))
            else:
                end = End(code, worker.error(code))
            yield end
            patience = grace if isinstance(end.error, StoppedError) else REPORT_SECONDS
            patience = patience if end.may_be_repeated else 0.0
            deadline = min(deadline, time.monotonic() + patience)
        time.sleep(_POLL_SECONDS)


def _end(group: Sequence[LocalWorker]) -> None:
    """Ends what still runs: it has nothing to save that the group could agree on."""
    running = [worker for worker in group if worker.process.poll() is None]
    for worker in running:
        worker.ask_to_stop()
    deadline = time.monotonic() + _END_SECONDS
    for worker in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
    for worker in group:
        worker.kill()
        worker.close()


def _free_addresses(count: int) -> list[str]:
    """Loopback addresses on ports that no one uses; all are held until the last is chosen, so they differ."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in held]

"""One attempt of a group of workers on this host: started together, watched, and ended together."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from optduel.components.core import LaunchError, PeerLostError, StoppedError, StopRequest, stop_on_signals
from optduel.components.storage import publish
from optduel.components.train.contract.outcome import End, Outcome, root_cause
from optduel.components.train.contract.restarts import Restarts
from optduel.components.train.contract.task import WORKER_MODULE, Task
from optduel.components.train.local.process import LocalWorker

REPORT_SECONDS = 10.0
"""Within it TensorFlow notices a dead peer, and whoever failed for a cause of its own has reported it."""

MARGIN_SECONDS = 5.0
"""What a worker has beyond its supervisor's own deadlines, before its launcher takes it for lost."""

_END_SECONDS = 1.0
_POLL_SECONDS = 0.05


def run_attempt(task: Task, task_file: Path, request: StopRequest) -> Outcome:
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
            # -P: nothing that lies in the current folder is imported.
            command = [sys.executable, "-P", "-m", WORKER_MODULE, str(task_file)]
            group.append(LocalWorker(task, index, addresses, command, folder))
        ends = list(_watch(task, group, request))
        step = max(worker.progress.step for worker in group)
    return Outcome(root_cause(ends) if ends else None, step)


def _watch(task: Task, group: Sequence[LocalWorker], request: StopRequest) -> Iterator[End]:
    """Yields the ends that were not well, in the order of time, until all have ended or time is up.

    Where some have lost a peer by then and nothing else is known, those that have not ended are the ones that
    were lost: too slow, frozen or cut off. They are among the ends, so that the cause is told by name.
    """
    running = list(group)
    only_lost = True
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
            only_lost = only_lost and isinstance(end.error, PeerLostError)
            patience = grace if isinstance(end.error, StoppedError) else REPORT_SECONDS
            patience = patience if end.may_be_repeated else 0.0
            deadline = min(deadline, time.monotonic() + patience)
        time.sleep(_POLL_SECONDS)
    if only_lost and not request.is_made:
        for worker in running:
            yield End(LaunchError.worker_exit_code, worker.silent())


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


class Launcher(Protocol):
    """Runs the workers of a trial somewhere."""

    def run(self, task: Task) -> None:
        """Returns when every worker has succeeded and `task.output` is complete.

        Raises:
            StoppedError: this process was asked to stop, and the workers have saved.
            OptduelError: the root cause of the last failure.
        """


class LocalLauncher:
    """Each worker is a process of this host; several talk over the loopback interface."""

    def run(self, task: Task) -> None:
        """Runs `task.compute.workers` processes; returns when every one has succeeded.

        A group that lost a worker, ran out of memory, or could not use a place is started again from its
        last checkpoint, at most `compute.restarts` times; where a worker was asked to stop, without counting.
        SIGTERM and SIGINT stop all workers within `compute.grace_seconds`. To be called in the main thread.

        Raises:
            StoppedError: this process was asked to stop, and the workers have saved.
            OptduelError: the root cause of the last failure.
        """
        with tempfile.TemporaryDirectory(prefix="optduel-") as scratch, stop_on_signals() as request:
            task_file = Path(scratch) / "task.json"
            publish(task_file, task.canonical_json().encode())
            restarts = Restarts(task.name, task.compute.restarts, request)
            while cause := (attempt := run_attempt(task, task_file, request)).cause:
                if request.is_made or not cause.may_be_repeated:
                    raise cause.error
                restarts.wait(cause.error, attempt.step)

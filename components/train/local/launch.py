"""Starts a trial's workers on this host, and starts them all again when one of them was lost."""

import tempfile
from pathlib import Path
from typing import Protocol

from optduel.components.core.stopping import stop_on_signals
from optduel.components.storage.objects import publish
from optduel.components.train.contract.restarts import Restarts
from optduel.components.train.contract.task import Task
from optduel.components.train.local.attempt import run_attempt


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

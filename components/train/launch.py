"""Trains on this host: starts a trial's workers, and starts them all again when one of them was lost."""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from components.core.errors import OptduelError, StoppedError
from components.core.narration import say
from components.core.storage import publish
from components.train.attempt import run_attempt
from components.train.stopping import StopRequest, stop_on_signals
from components.train.task import Task

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
"""Before a restart; each pause is twice the last, less up to a half by chance: groups shall not collide."""

CRASH_LOOP = 3
"""So many failures in a row at the same step are no accident."""

_POLL_SECONDS = 0.05


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
            steps: list[int] = []
            restarts = 0
            while cause := (attempt := run_attempt(task, task_file, request)).cause:
                if request.is_made or not cause.may_be_repeated:
                    raise cause.error
                is_preempted = isinstance(cause.error, StoppedError)
                restarts += not is_preempted
                steps.append(attempt.step)
                _check_hope(task, cause.error, restarts, steps)
                count = "not counted" if is_preempted else f"restart {restarts} of {task.compute.restarts}"
                pause = _pause_seconds(len(steps))
                say(f"{cause.error}. All workers start again in {pause:.1f} s ({count})")
                _sleep(task, pause, request)


def _check_hope(task: Task, error: OptduelError, restarts: int, steps: Sequence[int]) -> None:
    """Raises the error where another attempt is not allowed, or would end as the last ones did."""
    if len(steps) >= CRASH_LOOP and len(set(steps[-CRASH_LOOP:])) == 1:
        raise type(error)(
            f"{error}. So ended {CRASH_LOOP} attempts in a row, all at step {steps[-1]}: no more are made"
        )
    if restarts > task.compute.restarts:
        tried = f". It was restarted compute.restarts = {task.compute.restarts} times" if restarts > 1 else ""
        raise type(error)(f"{error}{tried}")


def _pause_seconds(failures: int) -> float:
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 16))
    return longest * random.uniform(0.5, 1.0)


def _sleep(task: Task, seconds: float, request: StopRequest) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if request.is_made:
            raise StoppedError(f"train {task.name}: stopped between two attempts; run it again to go on")
        time.sleep(_POLL_SECONDS)

"""Watches a training process from outside, where neither a hang nor a swallowed signal can reach.

It has to be a process of its own: TensorFlow waits for a missing peer with the interpreter's lock held, so
that no thread and no handler of that process runs, and it swallows SIGTERM.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from optduel.components.core import (
    ERROR_TYPES,
    LaunchError,
    OptduelError,
    OutOfMemoryError,
    StoppedError,
    StopRequest,
    TrainingError,
    UnfollowedError,
    oom_kills,
)
from optduel.components.settings import Compute
from optduel.components.train.contract.control import STAGING, STARTING, STOP, ProgressFile
from optduel.components.train.contract.lease import LeaseWatch

LAUNCHER_VARIABLE = "OPTDUEL_LAUNCHER_PID"
"""Names the process that started this worker, where it shall not live longer than that one."""

BEAT_SECONDS = 1.0
"""How often a supervisor shows its launcher that it lives."""

_POLL_SECONDS = 0.05
_DOCUMENTED = {0} | {error.worker_exit_code for error in ERROR_TYPES.values()}


class Supervisor:
    """Looks after one training process.

    Args:
        name: of the trial and worker, for messages.
        compute: the deadlines `start_seconds`, `progress_seconds` and `grace_seconds`.
        progress: where the training process reports, and this one beats.
        request: to stop, from outside.
        lease: of the training job, where its launcher keeps one.
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        progress: ProgressFile,
        request: StopRequest,
        lease: LeaseWatch | None = None,
    ) -> None:
        self._name = name
        self._lease = lease
        self._compute = compute
        self._progress = progress
        self._request = request
        self._beaten = 0.0
        self._beats = 0
        self._launcher = os.environ.get(LAUNCHER_VARIABLE)

    def tick(self) -> None:
        """Shows that this process lives; for the time before the training process runs.

        Raises:
            StoppedError: a stop was requested, and there is nothing to save.
            UnfollowedError: the lease has expired.
            LaunchError: the launcher is gone.
        """
        self._beat()
        if self._lease and self._lease.is_expired:
            raise self._unfollowed(self._lease, "ended before it began")
        if self._request.is_made:
            raise StoppedError(f"{self._name}: stopped before it began; nothing was lost")

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Runs the training process to its end; it never outlives this call.

        Args:
            command: of the training process.
            environment: the same, whole.

        Returns:
            0, or a code of `core.errors` with which the process ended and which it reported.

        Raises:
            StoppedError: a stop was requested before the first step.
            UnfollowedError: the lease has expired; what could be saved is.
            LaunchError: it did not begin within `start_seconds`, made no progress for `progress_seconds`, did
                not save within `grace_seconds` of a request to stop, or was killed.
            OutOfMemoryError: the kernel killed it for want of memory.
            TrainingError: it ended on a defect of ours.
        """
        kills = oom_kills()
        child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, bufsize=0, process_group=0)
        try:
            self._watch(child)
            return self._outcome(child.wait(), kills)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if child.stdin:
                child.stdin.close()

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Returns when the child has ended by itself."""
        compute = self._compute
        started = changed = time.monotonic()
        last, asked, has_begun = self._progress.progress(), None, False
        while child.poll() is None:
            self._beat()
            now, progress = time.monotonic(), self._progress.progress()
            has_begun = has_begun or progress.phase != STARTING
            if progress != last:
                last, changed = progress, now
            unfollowed = self._lease if self._lease and self._lease.is_expired else None
            if (self._request.is_made or unfollowed) and asked is None:
                if progress.phase in (STARTING, STAGING):  # there is nothing to save, and nobody listens
                    if unfollowed:
                        raise self._unfollowed(unfollowed, "ended before the first step")
                    raise StoppedError(f"{self._name}: stopped before the first step; nothing was lost")
                asked = now
                _ask_to_stop(child)
            if asked is not None and now - asked > compute.grace_seconds:
                if unfollowed:
                    raise self._unfollowed(unfollowed, f"has not saved in time, {last}; killed")
                raise self._overdue("was asked to stop and has not saved", "grace_seconds", str(last))
            if not has_begun and now - started > compute.start_seconds:
                raise self._overdue("did not start", "start_seconds", str(last))
            if has_begun and now - changed > compute.progress_seconds:
                raise self._overdue("hangs: no progress", "progress_seconds", str(last))
            time.sleep(_POLL_SECONDS)

    def _overdue(self, what: str, deadline: str, where: str) -> LaunchError:
        seconds = getattr(self._compute, deadline)
        return LaunchError(
            f"{self._name}: {what} within compute.{deadline} = {seconds:g}, {where}; killed. "
            "It goes on from the last checkpoint"
        )

    def _unfollowed(self, lease: LeaseWatch, end: str) -> UnfollowedError:
        return UnfollowedError(
            f"{self._name}: {end}: no launcher has renewed {lease.place} for {lease.seconds:g} s; the next "
            "attempt of the step goes on from the last checkpoint"
        )

    def _outcome(self, code: int, kills_before: int) -> int:
        is_stopped = code == StoppedError.worker_exit_code
        if is_stopped and self._lease and not self._request.is_made and self._lease.is_given_up():
            raise self._unfollowed(self._lease, f"saved and ended, {self._progress.progress()}")
        if code in _DOCUMENTED:
            return code
        raise self._unreported(code, oom_kills() > kills_before)

    def _unreported(self, code: int, is_out_of_memory: bool) -> OptduelError:
        where = f"{self._name}, {self._progress.progress()}"
        if code == -signal.SIGKILL and is_out_of_memory:
            return OutOfMemoryError(
                f"{where}: the kernel killed it for want of memory; lower training.global_batch_size, "
                "use more workers, or give each more memory"
            )
        if code < 0:
            return LaunchError(f"{where}: killed by {signal.Signals(-code).name}")
        return TrainingError(
            f"{where}: ended with code {code}, a defect of optduel; a traceback is among its last lines"
        )

    def _beat(self) -> None:
        if self._launcher and os.getppid() != int(self._launcher):
            raise LaunchError(f"{self._name}: process {self._launcher}, which started it, is gone")
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self._beaten, self._beats = time.monotonic(), self._beats + 1
            self._progress.beat(self._beats)


def _ask_to_stop(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # it is ending already
        if child.stdin:
            child.stdin.write(STOP)

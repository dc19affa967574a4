"""When a group of workers may be started again, and after what pause."""

import random
import time
from collections.abc import Sequence

from optduel.components.core import OptduelError, StoppedError, StopRequest, say

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
"""Before a restart; each pause is twice the last, less up to a half by chance: groups shall not collide."""

CRASH_LOOP = 3
"""After this many failures in a row at one step another attempt would fail there, too."""

_POLL_SECONDS = 0.05


def crash_loop(error: OptduelError, steps: Sequence[int]) -> OptduelError | None:
    """What to tell where another attempt has no hope; None where it has.

    Args:
        error: the cause of the last failure.
        steps: the last optimizer step of each failed attempt, in order.
    """
    if len(steps) < CRASH_LOOP or len(set(steps[-CRASH_LOOP:])) > 1:
        return None
    return type(error)(
        f"{error}. The last {CRASH_LOOP} attempts all ended at step {steps[-1]}, so no other is made"
    )


class Restarts:
    """Counts the failed attempts of one trial.

    Args:
        name: of the trial, for messages.
        allowed: `compute.restarts`.
        request: to stop, which ends a pause.
    """

    def __init__(self, name: str, allowed: int, request: StopRequest) -> None:
        self._name = name
        self._allowed = allowed
        self._request = request
        self._attempts = 0
        self._steps: list[int] = []

    def wait(self, error: OptduelError, step: int) -> None:
        """Returns when the next attempt may begin.

        Args:
            error: the cause of a failure that may be repeated; a StoppedError is none and does not count.
            step: the last optimizer step that a worker reported.

        Raises:
            StoppedError: a stop was requested.
            OptduelError: `error` and why there is no other attempt: it is not allowed, or there is no hope.
        """
        self._attempts += 1
        count = "not counted"
        if not isinstance(error, StoppedError):
            self._steps.append(step)
            self._check_hope(error)
            count = f"restart {len(self._steps)} of {self._allowed}"
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._attempts - 1, 16))
        pause = longest * random.uniform(0.5, 1.0)
        say(f"{error}. All workers start again in {pause:.1f} s ({count})")
        self._sleep(pause)

    def _check_hope(self, error: OptduelError) -> None:
        if loop := crash_loop(error, self._steps):
            raise loop
        if len(self._steps) > self._allowed:
            times = f". It was restarted compute.restarts = {self._allowed} times"
            raise type(error)(f"{error}{times if self._allowed else ''}")

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._request.is_made:
                raise StoppedError(f"train {self._name}: stopped between two attempts; run it again to go on")
            time.sleep(_POLL_SECONDS)

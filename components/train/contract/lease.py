"""The lease of a training job: the sign that somebody follows it.

A launcher on a cluster can be gone before it has deleted its job: a cancelled run leaves it less than a
second. So it renews an object beside the trial as long as it lives, and the chief's supervisor looks at that
object. When nobody has renewed it for `job.unfollowed_seconds`, the training saves and ends.

Clocks of different machines are never compared. The supervisor sees whether the object has changed, and
measures with its own monotonic clock for how long it has not.

A store that cannot be read is no sign that nobody is there: the launcher may not reach it either. So a look
that fails begins the count anew, and an outage of the store never ends a training. Nor does a machine that
pauses: a look counts for twice the time between two looks at most.
"""

import threading
import time
import uuid
from types import TracebackType
from typing import Self

from optduel.components.core import StorageError, say
from optduel.components.storage import delete, publish, stat

LEASE_VARIABLE = "OPTDUEL_LEASE_SECONDS"
"""Tells a worker that its launcher renews the trial's lease, and after what time without it to end."""

_LOOKS = 10
"""So often the lease is renewed, and looked at, within the time after which it has expired."""

_LAST_WRITE_SECONDS = 5.0


class LeaseKeeper:
    """Renews a lease while `with` lasts.

    Args:
        place: of the object, a path or a URI.
        seconds: after which it expires.

    Raises:
        StorageError: on entering: it cannot be written.
    """

    def __init__(self, place: str, seconds: float) -> None:
        self._place = place
        self._pause = seconds / _LOOKS
        self._holder = uuid.uuid4().hex
        self._count = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_over, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if kind is None:
            self._thread.join(_LAST_WRITE_SECONDS)
            try:
                delete(self._place)
            except StorageError as error:  # what was trained is there all the same
                say(f"the lease of the training job stays behind: {error}")

    def _renew_until_over(self) -> None:
        has_failed = False
        while not self._is_over.wait(self._pause):
            try:
                self._renew()
                has_failed = False
            except StorageError as error:
                if not has_failed:
                    say(f"the lease of the training job cannot be renewed: {error}; trying on")
                has_failed = True

    def _renew(self) -> None:
        self._count += 1
        publish(self._place, f"{self._holder} {self._count}\n".encode())


class LeaseWatch:
    """A supervisor's view of a lease.

    Args:
        place: of the object.
        seconds: after which it has expired.

    Attributes:
        is_expired: nobody has renewed it for so long, and it was given up.
    """

    def __init__(self, place: str, seconds: float) -> None:
        self.place = place
        self.seconds = seconds
        self.is_expired = False
        self._pause = seconds / _LOOKS
        self._unchanged = 0.0
        self._last: tuple[float, str] | None = None

    def start(self) -> None:
        """Looks again and again, in a thread: a store may take minutes to answer."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def look(self, now: float) -> None:
        """Looks once. An expired lease is given up by deleting it, which tells the other workers.

        Args:
            now: by the monotonic clock of this machine.
        """
        try:
            found = stat(self.place)
            version = found.version if found else ""
            if self._last is None or self._last[1] != version:
                self._unchanged = 0.0
            else:
                self._unchanged += min(now - self._last[0], 2 * self._pause)
            self._last = (now, version)
            if self._unchanged >= self.seconds:
                delete(self.place)
                self.is_expired = True
        except StorageError:
            self._last = None

    def is_given_up(self) -> bool:
        """Whether the lease has expired, for this worker or for the one that watches it."""
        try:
            return self.is_expired or stat(self.place) is None
        except StorageError:
            return False

    def _run(self) -> None:
        while not self.is_expired:
            self.look(time.monotonic())
            time.sleep(self._pause)

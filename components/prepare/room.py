"""Shares out memory."""

import contextlib
import threading
from collections.abc import Iterator

from optduel.components.core import OutOfMemoryError


class Room:
    """So many bytes, of which every thread takes what it needs, and waits where others have them.

    Attributes:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._taken = 0
        self._change = threading.Condition()

    @contextlib.contextmanager
    def taking(self, needed: int) -> Iterator[None]:
        """Takes bytes until the body ends.

        Raises:
            OutOfMemoryError: even the whole room has less.
        """
        if needed > self.total:
            raise OutOfMemoryError(
                f"decoding an image takes {needed:,} bytes of memory, of which {self.total:,} are there; "
                "give prepare more memory, or make the image smaller"
            )
        with self._change:
            self._change.wait_for(lambda: self._taken + needed <= self.total)
            self._taken += needed
        try:
            yield
        finally:
            with self._change:
                self._taken -= needed
                self._change.notify_all()

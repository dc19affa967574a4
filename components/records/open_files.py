"""Keeps a bounded number of files open for reading, whatever the number of shards."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from optduel.components.core import DataError
from optduel.components.storage import as_storage_error


class OpenFile:
    """A file that is open as long as this object is in use.

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise as_storage_error(error, path) from error
        # A reader in another thread may still hold what the cache lets go.
        weakref.finalize(self, os.close, self._descriptor)

    def read_into(self, buffers: Sequence[bytearray | memoryview], start: int, size: int) -> None:
        """Fills contiguous buffers, `size` bytes in all, with what the file holds from `start` on.

        Raises:
            DataError: the file ends before they are full.
            StorageError: it cannot be read.
        """
        try:
            found = os.preadv(self._descriptor, buffers, start)
            # A network's file system may give less than was asked for, and the rest when asked again.
            while 0 < found < size and (
                more := os.preadv(self._descriptor, _after(buffers, found), start + found)
            ):
                found += more
        except OSError as error:
            raise as_storage_error(error, self.path) from error
        if found != size:
            raise DataError(f"{self.path}: ends within a record, at byte {start + found}; run prepare again")


def _after(buffers: Sequence[bytearray | memoryview], filled: int) -> list[memoryview]:
    """What of the buffers is left to fill."""
    left = []
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        left.append(view[filled:])
        filled = max(filled - len(view), 0)
    return [view for view in left if view]


class OpenFiles:
    """The files that were read last. Safe from several threads at once.

    Args:
        limit: files that stay open; more are open only while several threads are reading.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> OpenFile:
        """The file at `path`, opened unless it is."""
        key = str(path)  # paths are slow to compare
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        opened = OpenFile(path)
        with self._lock:
            kept = self._files.setdefault(key, opened)
            if len(self._files) > self._limit:
                self._files.popitem(last=False)
        return kept

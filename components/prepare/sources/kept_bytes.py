"""Files that stay open as long as somebody reads images out of them."""

import errno
import os
import tempfile
import weakref
from array import array
from typing import IO

from optduel.components.prepare.image import ENCODED_BYTES_LIMIT
from optduel.components.records import staging_folder


class OpenBytes:
    """The content of an open file, readable from several threads at once; the file is closed with it.

    Args:
        file: open for reading; this has a descriptor of its own.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        """So many bytes from a place on, or as many of them as show that an image is too long."""
        return os.pread(self._descriptor, min(size, ENCODED_BYTES_LIMIT + 1), start)

    def write(self, content: bytes, start: int) -> None:
        """Writes to a place.

        Raises:
            OSError: there is no room.
        """
        if os.pwrite(self._descriptor, content, start) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class KeptBytes:
    """Images that lie in a table, in a nameless file, by their numbers.

    Raises:
        OSError: there is no room.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryFile(dir=staging_folder()) as file:
            self._file = OpenBytes(file)
        self._ends = array("q", [0])

    def add(self, content: bytes) -> int:
        """Keeps an image; returns its number."""
        kept = content[: ENCODED_BYTES_LIMIT + 1]
        self._file.write(kept, self._ends[-1])
        self._ends.append(self._ends[-1] + len(kept))
        return len(self._ends) - 2

    def read(self, number: int) -> bytes:
        """The image of a number."""
        start, end = self._ends[number], self._ends[number + 1]
        return self._file.read(start, end - start)

"""Reads the images of a source: each once, as far as there is room to keep what was read."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from optduel.components.core import DataError, usable_memory
from optduel.components.prepare.sources import Source, read_encoded
from optduel.components.prepare.split import ImageContent
from optduel.components.records import free_room, staging_folder
from optduel.components.storage import as_storage_error

_MEMORY_SHARE = 8
"""Of what lies on this machine this part of the memory is kept, in memory: on the disk a copy would be no
faster than the file."""

_DISK_SHARE = 2
"""Of the free disk, at most this part is taken by copies of what comes over a network."""


class Images:
    """The encoded images of a source; reading is safe from several threads at once.

    Args:
        source: of the images.
        is_near: they lie on this machine.
        reserved: bytes of the disk that are left for other things.

    Raises:
        StorageError: there is no place for temporary files.
    """

    def __init__(self, source: Source, is_near: bool, reserved: int) -> None:
        self.source = source
        count = len(source.examples)
        self._places = np.full(count, -1, np.int64)
        self._sizes = np.zeros(count, np.int64)
        self._held: dict[int, bytes] | None = {} if is_near else None
        self._end = 0
        self._lock = threading.Lock()
        place = staging_folder()
        try:
            # Without a name: it goes with the process, whatever ends it.
            self._file = tempfile.TemporaryFile(dir=place, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise as_storage_error(error, Path(place)) from error
        room = max(0, free_room() - reserved) // _DISK_SHARE
        self._limit = usable_memory() // _MEMORY_SHARE if is_near else room

    def close(self) -> None:
        """Gives up what was kept."""
        self._file.close()

    def read(self, position: int) -> bytes:
        """The encoded image from where it lies; a copy is kept if there is room.

        Raises:
            StorageError: it cannot be read.
        """
        encoded = read_encoded(self.source, position)
        with self._lock:
            start = self._end
            if start + len(encoded) > self._limit:
                return encoded
            self._end += len(encoded)
        if self._held is not None:
            self._held[position] = encoded
            return encoded
        try:
            written = os.pwrite(self._file.fileno(), encoded, start)
        except OSError:  # the disk is full by now
            written = 0
        if written == len(encoded):
            self._places[position], self._sizes[position] = start, len(encoded)
        else:
            self._limit = 0
        return encoded

    def read_again(self, position: int, digest: bytes) -> bytes:
        """The encoded image that `read` gave, from the copy where there is one.

        Args:
            digest: its SHA-256.

        Raises:
            StorageError: it cannot be read.
            DataError: it has another content by now.
        """
        if self._held is not None and position in self._held:
            return self._held[position]
        if self._places[position] >= 0:
            encoded = os.pread(self._file.fileno(), int(self._sizes[position]), int(self._places[position]))
            if len(encoded) == self._sizes[position]:
                return encoded
        encoded = read_encoded(self.source, position)
        # The fingerprint would otherwise name a content that is not in the records.
        if hashlib.sha256(encoded).digest() != digest:
            name = self.source.examples[position].id
            raise DataError(f"{name}: changed while it was read; run prepare again")
        return encoded

    def again(
        self, positions: Iterable[int], contents: Mapping[int, ImageContent]
    ) -> Iterator[tuple[str, bytes]]:
        """Names of images, and what `read_again` gives of each.

        Raises:
            StorageError: one cannot be read.
            DataError: one has another content by now.
        """
        for position in positions:
            encoded = self.read_again(position, contents[position].digest)
            yield self.source.examples[position].id, encoded

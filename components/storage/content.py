"""What is sent to a store, and what arrives from it, counted and checksummed on the way."""

import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import google_crc32c

from optduel.components.storage.retries import Attempt

BLOCK_BYTES = 1 << 18


class Content(Protocol):
    """A whole object, which every attempt reads from its start."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def crc32c(self) -> str:
        """Eight hexadecimal digits."""

    def open(self, attempt: Attempt, start: int = 0, size: int | None = None) -> "ContentReader":
        """A reader of the attempt's own, of the whole or of `size` bytes from `start` on."""


class ContentReader(io.RawIOBase):
    """Reads content for one attempt, and ends with it."""

    def __init__(
        self, read_at: Callable[[int, int], bytes], size: int, attempt: Attempt, close: Callable[[], None]
    ) -> None:
        self._read_at = read_at
        self._size = size
        self._attempt = attempt
        self._close = close
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True: clients measure what they send, and sign it before they send it."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to `offset`, counted from the start, from here, or from the end."""
        self._position = (0, self._position, self._size)[whence] + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes from here; all that is left where `size` is negative or None."""
        self._attempt.check()
        left = max(0, self._size - self._position)
        block = self._read_at(left if size is None or size < 0 else min(size, left), self._position)
        self._position += len(block)
        return block

    def close(self) -> None:
        """Ends the reader; the content stays."""
        if not self.closed:
            self._close()
        super().close()


class BytesContent:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    @functools.cached_property
    def crc32c(self) -> str:
        """Eight hexadecimal digits."""
        return f"{google_crc32c.value(self._data):08x}"

    def open(self, attempt: Attempt, start: int = 0, size: int | None = None) -> ContentReader:
        """A reader of the attempt's own, of the whole or of `size` bytes from `start` on."""
        data = self._data if size is None else self._data[start : start + size]
        return ContentReader(
            lambda count, place: data[place : place + count], len(data), attempt, lambda: None
        )


class FileContent:
    """Content of an open file, which stays open as long as this is used."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @functools.cached_property
    def crc32c(self) -> str:
        """Eight hexadecimal digits."""
        checksum = 0
        for position in range(0, self.size, BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, os.pread(self._descriptor, BLOCK_BYTES, position))
        return f"{checksum:08x}"

    def open(self, attempt: Attempt, start: int = 0, size: int | None = None) -> ContentReader:
        """A reader of the attempt's own, on a descriptor of its own: it may outlive the file."""
        descriptor = os.dup(self._descriptor)

        def read_at(count: int, place: int) -> bytes:
            return os.pread(descriptor, count, start + place)

        length = self.size - start if size is None else size
        return ContentReader(read_at, length, attempt, functools.partial(os.close, descriptor))


class Sink:
    """Receives an object during one attempt.

    Attributes:
        bytes: received so far.
    """

    def __init__(
        self, file: IO[bytes], attempt: Attempt, received: Callable[[int], None] | None = None
    ) -> None:
        self.bytes = 0
        self._received = received
        self._file = file
        self._attempt = attempt
        self._checksum = 0

    @property
    def crc32c(self) -> str:
        """Of what was received: eight hexadecimal digits."""
        return f"{self._checksum:08x}"

    def write(self, block: bytes) -> int:
        """Takes the next bytes."""
        self._attempt.check()
        self._attempt.allow(len(block))
        self._take(block)
        if self._received:
            self._received(len(block))
        return len(block)

    def resume(self, path: Path) -> None:
        """Takes what an earlier attempt has received, and goes on behind it."""
        with path.open("rb") as kept:
            while block := kept.read(BLOCK_BYTES):
                self._attempt.check()
                self._take(block)

    def _take(self, block: bytes) -> None:
        self._file.write(block)
        self._checksum = google_crc32c.extend(self._checksum, block)
        self.bytes += len(block)

    def flush(self) -> None:
        """Nothing waits here."""


def crc32c_of(source: ContentReader) -> str:
    """The CRC-32C of all that a reader holds, eight hexadecimal digits; it stands at the start again."""
    checksum = 0
    for block in _blocks(source):
        checksum = google_crc32c.extend(checksum, block)
    source.seek(0)
    return f"{checksum:08x}"


def md5_of(source: ContentReader) -> str:
    """The MD5 of all that a reader holds, hexadecimal; servers name S3 objects by it."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in _blocks(source):
        digest.update(block)
    return digest.hexdigest()


def _blocks(source: ContentReader) -> Iterator[bytes]:
    source.seek(0)
    while block := source.read(BLOCK_BYTES):
        yield block

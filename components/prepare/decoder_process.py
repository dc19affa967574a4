"""Decodes images that another process sends: the program that `decoders` starts.

It imports little, as one starts for each core. It ends when the other process closes the connection.
"""

import contextlib
import json
import mmap
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from optduel.components.decoding import parse_json
from optduel.components.prepare.decoder import RecordFormat, decode
from optduel.components.prepare.image import UnusableImageError

CONTENTS_START = 1
"""Where in the shared memory contents begin. The byte before is the number, 0 to 255, of the image in its
message that is being decoded."""

_BUFFER_BYTES = 2**20
"""So a message of small images is sent at once, and its reader is not woken for each of them."""


def send(connection: BinaryIO, message: object, parts: Sequence[bytes] = ()) -> None:
    """Sends what `receive` returns: what JSON holds, and bytes.

    Raises:
        ConnectionError: the other process has closed the connection.
    """
    sizes = [len(part) for part in parts]
    connection.write(json.dumps([message, sizes]).encode() + b"\n")
    for part in parts:
        connection.write(part)
    connection.flush()


def receive(connection: BinaryIO) -> tuple[Any, list[bytes]]:
    """What the other process has sent.

    Raises:
        EOFError: it has closed the connection.
    """
    line = connection.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    message, sizes = parse_json(line)
    parts = [connection.read(size) for size in sizes]
    if [len(part) for part in parts] != sizes:
        raise EOFError
    return message, parts


def connected(end: socket.socket) -> BinaryIO:
    """One end of a connection, for `send` and `receive`; closing it closes the end."""
    with end:  # which the file keeps open
        return cast(BinaryIO, end.makefile("rwb", _BUFFER_BYTES))


class _LentMemory:
    """Memory that an image takes without asking; for more it asks, and waits until it is told to go on."""

    def __init__(self, connection: BinaryIO, lent: int) -> None:
        self._connection = connection
        self._lent = lent

    @contextlib.contextmanager
    def taking(self, needed: int) -> Iterator[None]:
        """Takes what the other process keeps account of."""
        if needed > self._lent:
            send(self._connection, needed)
            receive(self._connection)
        yield


def serve(connection: BinaryIO, shared: mmap.mmap, lent: int, wanted: RecordFormat) -> None:
    """Answers every message, until the connection is closed.

    A message is whether records are made, and encoded images. The answer is a list with an entry for each:
    why it cannot be used, or the fields of `Extract`. Of those, `small` is in hexadecimal digits, and of the
    content there is the size. The contents lie in the shared memory one after another; one that does not fit
    has no size there, and comes with the answer. Before the answer may come how many bytes of memory an image
    takes; any message lets it go on.

    Args:
        connection: to the other process.
        shared: memory.
        lent: bytes of memory that an image takes without asking.
        wanted: what images become.
    """
    memory = _LentMemory(connection, lent)
    while True:
        is_written, images = receive(connection)
        entries: list[object] = []
        apart: list[bytes] = []
        start = CONTENTS_START
        for number, encoded in enumerate(images):
            shared[0] = number
            try:
                content, small, *others = decode(encoded, wanted, memory, is_written)
            except UnusableImageError as error:
                entries.append(str(error))
                continue
            end = start + len(content)
            if is_shared := end <= len(shared):
                shared[start:end] = content
                start = end
            else:
                apart.append(content)
            entries.append([len(content) if is_shared else None, small and small.hex(), *others])
        shared[0] = 0
        send(connection, entries, apart)


if __name__ == "__main__":
    # Pillow warns of oddities in images that it then decodes completely.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    own, memory, lent, height, width, channels, encoding = sys.argv[1:]
    with contextlib.suppress(EOFError, ConnectionError):
        serve(
            connected(socket.socket(fileno=int(own))),
            mmap.mmap(int(memory), 0),
            int(lent),
            RecordFormat(int(height), int(width), int(channels), encoding),
        )

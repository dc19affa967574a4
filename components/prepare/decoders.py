"""Decodes images in processes: threads of one interpreter wait for one another."""

import contextlib
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from optduel.components.core import DataError, LaunchError, OutOfMemoryError, usable_cores
from optduel.components.prepare.decoder import Extract, RecordFormat, decode
from optduel.components.prepare.decoder_process import CONTENTS_START, connected, receive, send
from optduel.components.prepare.image import UnusableImageError
from optduel.components.prepare.room import Room
from optduel.components.records import staging_folder
from optduel.components.settings import Data
from optduel.components.storage import as_storage_error

_PROGRAM = "optduel.components.prepare.decoder_process"

_KEPT_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(16 * 2**20), "MALLOC_MMAP_THRESHOLD_": str(16 * 2**20)}
"""For glibc, which would give memory back to the kernel after each image: of 256 pixels, 85 page faults."""

_LENT_BYTES = 64 * 2**20
"""Of memory: what an image takes in a process without asking, enough for 16 million plain pixels."""

_MESSAGE_IMAGES = 32
_MESSAGE_BYTES = 4 * 2**20
"""Of encoded images, and of what becomes of them. To wake a process for each image takes up to 0.2 ms."""

_WORTH_PROCESSES = 2_000
"""Images. Of each, 0.2 ms and more are spared, and a process takes 0.12 s of a core to start."""

_MOST_PROCESSES = 16
"""More would wait for the threads that read and write, which share one interpreter."""


def useful_processes(images: int) -> int:
    """How many processes shall decode so many images; 0 where threads take no longer."""
    cores = usable_cores()
    return min(cores, _MOST_PROCESSES) if cores > 1 and images >= _WORTH_PROCESSES else 0


class Decoders:
    """Decodes images for several threads at once; after an error other than of an image, none any more.

    Args:
        data: the section that says what images become.
        room: of memory, for the images that are decoded at a time.
        processes: how many decode; with none, images are decoded in the thread that asks.

    Attributes:
        room: the same.

    Raises:
        LaunchError: a process cannot be started.
        StorageError: there is no place for temporary files.
    """

    def __init__(self, data: Data, room: Room, processes: int) -> None:
        self.room = room
        self._wanted = RecordFormat(*data.image_size, data.channels, data.encoding)
        self._processes = processes
        self._lent = min(_LENT_BYTES, room.total)
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._failure: Exception | None = None
        with contextlib.ExitStack() as opened:
            for _ in range(processes):
                process = _Process(self._wanted, self._lent)
                opened.callback(process.end)
                self._idle.put(process)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def decode(
        self, images: Iterable[tuple[str, bytes]], is_written: bool
    ) -> Iterator[Extract | UnusableImageError]:
        """What `decoder.decode` returns for each image, or why it cannot be used.

        Args:
            images: names, for messages, and files; some are taken before the first answer.
            is_written: records are made of them.

        Raises:
            OutOfMemoryError: there will never be room, or the kernel ended the process that decoded it.
            DataError: its decoder has crashed.
        """
        if self._processes:
            for some in self._messages(images):
                yield from self._ask(some, is_written)
            return
        for _, encoded in images:
            try:
                extract: Extract | UnusableImageError = decode(encoded, self._wanted, self.room, is_written)
            except UnusableImageError as error:
                extract = error
            yield extract

    def _messages(self, images: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
        pixels = self._wanted.height * self._wanted.width * self._wanted.channels
        most = max(1, min(_MESSAGE_IMAGES, _MESSAGE_BYTES // pixels))
        some: list[tuple[str, bytes]] = []
        size = 0
        for name, encoded in images:
            some.append((name, encoded))
            size += len(encoded)
            if len(some) == most or size >= _MESSAGE_BYTES:
                yield some
                some, size = [], 0
        if some:
            yield some

    def _ask(self, images: list[tuple[str, bytes]], is_written: bool) -> list[Extract | UnusableImageError]:
        names = [name for name, _ in images]
        with self._process() as process:
            with self.room.taking(self._lent):
                answer, contents = process.ask(names, is_written, [encoded for _, encoded in images])
            while isinstance(answer, int):
                with self.room.taking(answer):
                    answer, contents = process.ask(names, None)
            return list(process.extracts(answer, contents))

    @contextlib.contextmanager
    def _process(self) -> Iterator["_Process"]:
        process = self._idle.get()
        try:
            if self._failure:  # it may be in the middle of another image
                raise self._failure
            yield process
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._idle.put(process)


class _Process:
    """A process that decodes an image at a time.

    Args:
        wanted: what images become.
        lent: bytes of memory that an image takes without asking.

    Raises:
        LaunchError: it cannot be started.
        StorageError: there is no place for temporary files.
    """

    def __init__(self, wanted: RecordFormat, lent: int) -> None:
        with _memory_file() as file:
            self._shared = mmap.mmap(file.fileno(), 0)
            ours, theirs = socket.socketpair()
            self._connection = connected(ours)
            passed = (theirs.fileno(), file.fileno())
            arguments = map(str, (*passed, lent, *wanted))
            try:
                # In a session of its own: the keyboard interrupts this process only, whose end ends it, too.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _PROGRAM, *arguments],
                    env={**os.environ, **_KEPT_HEAP},
                    stdin=subprocess.DEVNULL,
                    pass_fds=passed,
                    start_new_session=True,
                )
            except OSError as error:
                self._connection.close()
                raise LaunchError(f"prepare: {sys.executable} cannot be run ({error.strerror})") from error
            finally:
                theirs.close()

    def ask(
        self, names: Sequence[str], message: object, images: Sequence[bytes] = ()
    ) -> tuple[Any, list[bytes]]:
        """Sends a message, and waits for the answer to it: see `decoder_process.serve`.

        Args:
            names: of the images that the message is about.
            message: what JSON holds.
            images: encoded.

        Raises:
            OutOfMemoryError: the kernel has ended the process.
            DataError: the process has crashed.
        """
        try:
            send(self._connection, message, images)
            return receive(self._connection)
        except (EOFError, OSError) as error:
            raise self._lost(names[self._shared[0]]) from error

    def extracts(
        self, entries: Sequence[Any], apart: Iterable[bytes]
    ) -> Iterator[Extract | UnusableImageError]:
        """What an answer tells of its images.

        Args:
            entries: of the answer.
            apart: contents that are not in the shared memory.
        """
        start, apart = CONTENTS_START, iter(apart)
        for entry in entries:
            if isinstance(entry, str):
                yield UnusableImageError(entry)
                continue
            size, small, peak, has_more, original = entry
            content = next(apart) if size is None else self._shared[start : start + size]
            start += size or 0
            yield Extract(content, small and bytes.fromhex(small), peak, has_more, tuple(original))

    def _lost(self, name: str) -> Exception:
        code = self._process.wait()
        if code >= 0:  # its traceback is on standard error
            return RuntimeError(f"{name}: the process that decoded it ended with exit code {code}")
        if code == -signal.SIGKILL:
            return OutOfMemoryError(
                f"{name}: the process that decoded it was killed, as the kernel does for want of memory; "
                "give prepare more memory"
            )
        reason = f"the process that decoded it ended with {signal.Signals(-code).name}"
        return DataError(f"{name}: {reason}; remove the image, or save it again")

    def end(self) -> None:
        """Ends the process, whatever it does."""
        with contextlib.suppress(OSError):  # what is not sent yet
            self._connection.close()
        self._shared.close()
        self._process.kill()
        self._process.wait()


def _memory_file() -> IO[bytes]:
    """A nameless file for shared memory, with all its blocks: on a full disk, others would end who writes."""
    place = staging_folder()
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(tempfile.TemporaryFile(dir=place))
            file.write(bytes(CONTENTS_START + _MESSAGE_BYTES))
            file.flush()
            opened.pop_all()
    except OSError as error:
        raise as_storage_error(error, Path(place)) from error
    return file

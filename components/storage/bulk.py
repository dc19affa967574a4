"""Moves many whole objects between local files and stores, in parallel."""

import concurrent.futures
import functools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from optduel.components.storage import local, remote
from optduel.components.storage.content import FileContent
from optduel.components.storage.entry import Entry
from optduel.components.storage.location import Location, is_remote, local_path

THREADS = 8
"""Transfers at the same time. Each takes up to 4 MiB of memory, however large the objects."""

Item = TypeVar("Item")

Progress = Callable[[Entry], None]
"""Is told of every object that has arrived, in the thread that asked for the transfer."""


@dataclass(frozen=True)
class Upload:
    """A local file and where it goes."""

    source: Path
    target: Location


@dataclass(frozen=True)
class Download:
    """An object and the local file that it becomes.

    Attributes:
        bytes: its size, where known: what arrives must have it.
        crc32c: its CRC-32C as eight hexadecimal digits, where known.
    """

    source: Location
    target: Path
    bytes: int | None = None
    crc32c: str | None = None


def upload(
    uploads: Iterable[Upload], progress: Progress | None = None, threads: int = THREADS
) -> list[Entry]:
    """Publishes local files. Each appears whole; the first failure ends the others.

    Args:
        progress: is given the target as written.

    Returns:
        The targets, in the order of `uploads`, with their CRC-32C.

    Raises:
        StorageError: a file cannot be read or a place cannot be written.
    """
    return _transfer(_upload, uploads, progress, threads, threading.Event())


def download(
    downloads: Iterable[Download],
    progress: Progress | None = None,
    threads: int = THREADS,
    stopped: threading.Event | None = None,
    received: Callable[[int], None] | None = None,
) -> list[Entry]:
    """Brings objects to local files, checked. Each file appears whole; the first failure ends the others.

    What is damaged on the way is fetched once more.

    Args:
        progress: is given the source.
        stopped: when set, nobody wants the objects any more: transfers from a store end within a moment.
        received: is told of bytes as they arrive from a store, in several threads.

    Returns:
        The sources, in the order of `downloads`, with the CRC-32C of what arrived.

    Raises:
        StorageError: an object cannot be read or is not the expected one, or a file cannot be written.
        AbandonedError: `stopped` was set.
    """
    move = functools.partial(_download, received=received)
    return _transfer(move, downloads, progress, threads, stopped or threading.Event())


def _transfer(
    move: Callable[[Item, threading.Event], Entry],
    items: Iterable[Item],
    progress: Progress | None,
    threads: int,
    stopped: threading.Event,
) -> list[Entry]:
    with concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(move, item, stopped) for item in items]
        try:
            for future in concurrent.futures.as_completed(futures):
                entry = future.result()
                if progress:
                    progress(entry)
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _upload(item: Upload, stopped: threading.Event) -> Entry:
    if is_remote(item.target):
        try:
            with item.source.open("rb") as file:
                return remote.write(str(item.target), FileContent(file.fileno()), None, stopped)
        except OSError as error:
            raise local.as_storage_error(error, item.source) from error
    return local.copy_file(item.source, local_path(item.target))


def _download(item: Download, stopped: threading.Event, received: Callable[[int], None] | None) -> Entry:
    if is_remote(item.source):
        return remote.fetch(str(item.source), item.target, item.bytes, item.crc32c, stopped, received)
    source = local_path(item.source)
    copy = local.copy_file(source, item.target, item.bytes, item.crc32c)
    return replace(copy, uri=str(source))

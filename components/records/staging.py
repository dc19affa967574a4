"""Brings the shards that a process reads to its disk, verified, while the process already works.

Copies lie in a folder that the manifest's content names, and appear there whole, so that other processes and
later ones use what is there. Nothing of a data set that is local is copied.
"""

import concurrent.futures
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from optduel.components.records.copies import hold, make_room, staging_folder
from optduel.components.records.integrity import file_damage, remove_stale_parts, verify_shards
from optduel.components.records.manifest import Manifest, Records, Shard
from optduel.components.storage import Download, Entry, download, is_remote

PROGRESS_SECONDS = 1.0
"""How often whoever waits for shards is told that bytes have been read or have arrived."""


def stage(
    records: Records, shards: Sequence[Shard], progress: Callable[[], None] | None = None
) -> "StagedRecords":
    """Verifies shards and makes them readable from this machine.

    Local shards are read whole, once, and stay where they are. Of stored ones, sizes and checksums are
    compared with the manifest now, and the contents while they arrive in the background, in the given order.
    Those whose store tells no checksum have arrived when this returns.

    Args:
        records: the data set.
        shards: those that this process will read, the first ones that it needs first.
        progress: called once a second while this goes on and bytes are read or arrive, from any thread.

    Returns:
        The data set for `SplitReader`, to be closed after use.

    Raises:
        DataError: names every shard that is missing or differs from the manifest.
        StorageError: the store cannot be reached, or the disk has no room for the copies.
    """
    reports = _Reports(progress)
    unproved = verify_shards(records, shards, reports.count)
    if not is_remote(records.location):
        return StagedRecords(records, records.folder, [])
    folder = staging_folder() / "records" / _content_name(records.manifest)
    staged = StagedRecords(records, folder, shards)
    try:
        seen = staged.arrived_bytes
        while not staged.wait(unproved, PROGRESS_SECONDS):
            reports.count(staged.arrived_bytes - seen)
            seen = staged.arrived_bytes
    except BaseException:
        staged.close()
        raise
    return staged


class _Reports:
    """Passes on that bytes have been read, but not for every block. Safe from several threads."""

    def __init__(self, report: Callable[[], None] | None) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def count(self, read_bytes: int) -> None:
        if self._report is None or not read_bytes:
            return
        with self._lock:
            if time.monotonic() - self._last > PROGRESS_SECONDS:
                self._last = time.monotonic()
                self._report()


def _content_name(manifest: Manifest) -> str:
    """The manifest's content covers every shard's: equal names mean equal bytes, wherever they come from."""
    return hashlib.sha256(manifest.canonical_json().encode()).hexdigest()[:32]


class StagedRecords:
    """A data set of which some shards are on this machine, or on their way. Safe from several threads.

    Args:
        records: the data set.
        folder: where its files are.
        shards: to be brought there.

    Raises:
        StorageError: the disk has no room for what is not there.
    """

    def __init__(self, records: Records, folder: Path, shards: Sequence[Shard]) -> None:
        self.manifest = records.manifest
        self._records = records
        self._folder = folder
        self._awaited = {shard.file for shard in shards}
        self._arrival = threading.Condition()
        self._closed = threading.Event()
        self._fetching: concurrent.futures.Future[None] | None = None
        self._arrived_bytes = 0
        self._held: int | None = None
        if shards:
            self._held = hold(folder)
            try:
                remove_stale_parts(folder)
                absent = [shard for shard in shards if not self._has_size(shard)]
                make_room(sum(shard.bytes for shard in absent), records.location)
            except BaseException:
                self._let_go()
                raise
            self._thread = concurrent.futures.ThreadPoolExecutor(1, "staging")
            self._fetching = self._thread.submit(self._fetch, shards)
            self._fetching.add_done_callback(lambda _: self._arrived([]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Shards that have not arrived yet."""
        return len(self._awaited)

    @property
    def arrived_bytes(self) -> int:
        """Bytes that have arrived or were found to be right, of shards that are not whole yet, too.

        Those of a transfer that broke off count: this says that work goes on, not how much is there.
        """
        return self._arrived_bytes

    def path(self, shard: Shard) -> Path:
        """Where a shard is; waits until it has arrived. Raises as `wait` does."""
        self.wait([shard])
        return self._folder / shard.file

    def wait(self, shards: Iterable[Shard], seconds: float | None = None) -> bool:
        """Waits until shards have arrived.

        Args:
            seconds: at most.

        Returns:
            Whether they have.

        Raises:
            StorageError: one of all shards could not be brought here, or arrived damaged again and again.
        """
        files = {shard.file for shard in shards}
        with self._arrival:
            self._arrival.wait_for(lambda: self._has_failed() or files.isdisjoint(self._awaited), seconds)
            if self._fetching is not None and self._has_failed():
                self._fetching.result()
            return files.isdisjoint(self._awaited)

    def close(self) -> None:
        """Gives up what has not arrived, also in the middle of a shard."""
        self._closed.set()
        if self._fetching is not None:
            self._thread.shutdown(wait=True)
        self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _has_failed(self) -> bool:
        fetching = self._fetching
        return fetching is not None and fetching.done() and fetching.exception() is not None

    def _fetch(self, shards: Sequence[Shard]) -> None:
        found = {shard: self._folder / shard.file for shard in shards if self._has_size(shard)}
        damaged = file_damage(found, self._count)
        self._arrived([shard.file for shard in found if shard not in damaged])
        missing = [shard for shard in shards if shard.file in self._awaited]
        files = {self._records.place(shard): shard.file for shard in missing}

        def arrive(entry: Entry) -> None:
            self._arrived([files[entry.uri]])

        download(
            [
                Download(self._records.place(shard), self._folder / shard.file, shard.bytes, shard.crc32c)
                for shard in missing
            ],
            progress=arrive,
            stopped=self._closed,
            received=self._count,
        )

    def _count(self, arrived_bytes: int) -> None:
        with self._arrival:
            self._arrived_bytes += arrived_bytes

    def _arrived(self, files: Iterable[str]) -> None:
        with self._arrival:
            self._awaited.difference_update(files)
            self._arrival.notify_all()

    def _has_size(self, shard: Shard) -> bool:
        path = self._folder / shard.file
        return path.is_file() and path.stat().st_size == shard.bytes

"""Brings the shards that a process reads to its disk, verified, while the process already works.

Copies lie in a folder that the manifest's content names, and appear there whole, so that other processes and
later ones use what is there. Nothing of a data set that is local is copied.
"""

import concurrent.futures
import hashlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from optduel.components.records.integrity import file_damage, remove_stale_parts, verify_shards
from optduel.components.records.manifest import Manifest, Records, Shard
from optduel.components.records.scratch import check_room, staging_folder
from optduel.components.storage.bulk import Download, download
from optduel.components.storage.entry import Entry
from optduel.components.storage.location import is_remote


def stage(records: Records, shards: Sequence[Shard]) -> "StagedRecords":
    """Verifies shards and makes them readable from this machine.

    Local shards are read whole, once, and stay where they are. Of stored ones, sizes and checksums are
    compared with the manifest now, and the contents while they arrive in the background, in the given order.
    Those whose store tells no checksum have arrived when this returns.

    Args:
        records: the data set.
        shards: those that this process will read, the first ones that it needs first.

    Returns:
        The data set for `SplitReader`, to be closed after use.

    Raises:
        DataError: names every shard that is missing or differs from the manifest.
        StorageError: the store cannot be reached, or the disk has no room for the copies.
    """
    unproved = verify_shards(records, shards)
    if not is_remote(records.location):
        return StagedRecords(records, records.folder, [])
    folder = staging_folder() / "records" / _content_name(records.manifest)
    staged = StagedRecords(records, folder, shards)
    try:
        staged.wait(unproved)
    except BaseException:
        staged.close()
        raise
    return staged


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
        if shards:
            remove_stale_parts(folder)
            absent = [shard for shard in shards if not self._has_size(shard)]
            check_room(sum(shard.bytes for shard in absent), records.location)
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

    def _has_failed(self) -> bool:
        fetching = self._fetching
        return fetching is not None and fetching.done() and fetching.exception() is not None

    def _fetch(self, shards: Sequence[Shard]) -> None:
        found = {shard: self._folder / shard.file for shard in shards if self._has_size(shard)}
        damaged = file_damage(found)
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
        )

    def _arrived(self, files: Iterable[str]) -> None:
        with self._arrival:
            self._awaited.difference_update(files)
            self._arrival.notify_all()

    def _has_size(self, shard: Shard) -> bool:
        path = self._folder / shard.file
        return path.is_file() and path.stat().st_size == shard.bytes

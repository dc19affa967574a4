"""Brings the shards that a process reads to its disk, verified, while the process already works.

Copies lie in a folder that the manifest's content names, and appear there whole, so that other processes and
later ones use what is there. Nothing of a data set that is local is copied.
"""

import concurrent.futures
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from optduel.components.core import RefusedError, SetupError, StorageError
from optduel.components.records.integrity import file_damage, remove_stale_parts, verify_shards
from optduel.components.records.manifest import Manifest, Records, Shard
from optduel.components.storage import Download, Entry, as_storage_error, download, is_remote, list_entries

STAGING_VARIABLE = "OPTDUEL_STAGING"
"""Names the folder; below the temporary directory by default."""

BUDGET_VARIABLE = "OPTDUEL_STAGING_BYTES"
"""Names how many bytes all that lies in the folder may take; no limit but the disk's by default."""


def staging_folder() -> Path:
    """The folder, made where it is absent.

    Raises:
        StorageError: it cannot be made, or is not this user's own.
    """
    named = os.environ.get(STAGING_VARIABLE)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"optduel-staging-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Everybody may write to the temporary directory, so somebody else may have made this one.
        if not named and folder.stat().st_uid != os.getuid():
            raise RefusedError(f"{folder}: belongs to another user; name a folder in {STAGING_VARIABLE}")
    except OSError as error:
        raise as_storage_error(error, folder) from error
    return folder


def check_room(needed_bytes: int, what: str) -> None:
    """Tells before the first byte arrives that the copies would not fit.

    Args:
        needed_bytes: of the copies that are still to be made.
        what: they are copies of, for the message.

    Raises:
        StorageError: the disk or the budget has less room.
        SetupError: the budget is no number.
    """
    folder = staging_folder()
    remedy = f"free some, or name another folder in {STAGING_VARIABLE}"
    rooms = [(shutil.disk_usage(folder).free, f"are free; {remedy}")]
    if (budget := _budget()) is not None:
        used = sum(entry.bytes for entry in list_entries(folder))
        remedy = f"raise {BUDGET_VARIABLE} or delete what is not needed there"
        rooms.append((max(0, budget - used), f"are left of a budget of {budget:,}; {remedy}"))
    for room, rest in rooms:
        if needed_bytes > room:
            raise StorageError(f"{folder}: copies of {what} need {needed_bytes:,} bytes, but {room:,} {rest}")


def _budget() -> int | None:
    text = os.environ.get(BUDGET_VARIABLE)
    if text is None:
        return None
    if not text.isdecimal():
        raise SetupError(f"{BUDGET_VARIABLE} = {text!r}: must be a number of bytes")
    return int(text)


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

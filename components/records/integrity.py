"""Tells whether shards are those of the manifest: files by content, stored ones by what their store says."""

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import google_crc32c

from optduel.components.core import DataError
from optduel.components.records.manifest import Records, Shard
from optduel.components.storage import Entry, as_storage_error, is_remote, list_entries, stat

_BLOCK_BYTES = 1 << 20
_THREADS = 8
_STALE_SECONDS = 3600.0

Found = TypeVar("Found")


@dataclass(frozen=True)
class Findings:
    """What a look at shards has shown.

    Attributes:
        damage: what is wrong with each shard that is missing or differs from the manifest.
        unproved: shards of the right size whose store tells no checksum.
    """

    damage: dict[Shard, str]
    unproved: list[Shard]


def _nothing(_: int) -> None:
    """Where nobody wants to know."""


def verify_shards(
    records: Records, shards: Sequence[Shard], examined: Callable[[int], None] = _nothing
) -> list[Shard]:
    """Compares shards with the manifest.

    Local shards are read whole. Of stored ones the store is asked for size and CRC-32C; no content is read.

    Args:
        examined: is told of bytes that have been read, from several threads.

    Returns:
        The shards whose store tells no checksum: only their sizes are known to be right.

    Raises:
        DataError: names every shard that is missing or differs.
        StorageError: the store cannot be reached.
    """
    findings = inspect_shards(records, shards, examined)
    if findings.damage:
        remedy = "delete the data set's folder and run prepare again"
        headline = f"{records.location}: {len(findings.damage)} damaged shard(s); {remedy}"
        raise DataError("\n".join([headline, *findings.damage.values()]))
    return findings.unproved


def inspect_shards(
    records: Records, shards: Sequence[Shard], examined: Callable[[int], None] = _nothing
) -> Findings:
    """Compares as `verify_shards` does, and judges nothing.

    Raises:
        StorageError: the store cannot be reached.
    """
    if not is_remote(records.location):
        return Findings(file_damage({shard: records.path(shard) for shard in shards}, examined), [])
    listed = {entry.uri: entry for entry in list_entries(records.location)}

    def known(shard: Shard) -> Entry | None:
        entry = listed.get(records.place(shard))
        # Listings of S3 hold no checksums.
        return stat(entry.uri) if entry and entry.bytes == shard.bytes and entry.crc32c is None else entry

    entries = dict(zip(shards, _in_threads(known, shards), strict=True))
    problems = {shard: _entry_problem(records.place(shard), entry, shard) for shard, entry in entries.items()}
    damage = {shard: problem for shard, problem in problems.items() if problem}
    unproved = [
        shard for shard, entry in entries.items() if entry and entry.crc32c is None and shard not in damage
    ]
    return Findings(damage, unproved)


def file_damage(paths: Mapping[Shard, Path], examined: Callable[[int], None]) -> dict[Shard, str]:
    """What is wrong with local copies of shards, by their content; sound ones are absent."""
    shards = list(paths)
    problems = _in_threads(lambda shard: _file_problem(paths[shard], shard, examined), shards)
    return {shard: problem for shard, problem in zip(shards, problems, strict=True) if problem}


def _in_threads(look: Callable[[Shard], Found], shards: Sequence[Shard]) -> list[Found]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(look, shards))


def _entry_problem(place: str, entry: Entry | None, shard: Shard) -> str | None:
    if entry is None:
        return f"{place}: is missing"
    if entry.bytes != shard.bytes:
        return f"{place}: {entry.bytes} bytes, the manifest says {shard.bytes}"
    return None if entry.crc32c is None else _checksum_problem(place, entry.crc32c, shard)


def _file_problem(path: Path, shard: Shard, examined: Callable[[int], None]) -> str | None:
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{path}: {size} bytes, the manifest says {shard.bytes}"
        return _checksum_problem(str(path), _checksum(path, examined), shard)
    except OSError as error:
        return f"{path}: {error.strerror}"


def _checksum_problem(place: str, crc32c: str, shard: Shard) -> str | None:
    return None if crc32c == shard.crc32c else f"{place}: CRC-32C {crc32c}, the manifest says {shard.crc32c}"


def _checksum(path: Path, examined: Callable[[int], None]) -> str:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
            examined(len(block))
    return f"{checksum:08x}"


def remove_stale_parts(folder: Path) -> None:
    """Removes parts of shards that killed processes left; one at work has written to its part recently.

    Raises:
        StorageError: a part cannot be removed.
    """
    try:
        for part in folder.glob(".*.tfrecord.*"):
            with contextlib.suppress(FileNotFoundError):  # another process was first
                if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                    part.unlink()
    except OSError as error:
        raise as_storage_error(error, folder) from error

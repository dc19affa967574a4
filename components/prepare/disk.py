"""Keeps within the disk, and within the memory of what waits for it."""

import shutil
import tempfile
from pathlib import Path

from optduel.components.core import StorageError
from optduel.components.storage import as_storage_error, is_remote, local_path

_COPIES = 4
"""Of a record in a thread that writes it: pixels, example, record, and what waits for the disk."""


def check_disk(folder: str, needed: int) -> None:
    """Tells before the first image is decoded that the records would not fit; a store has room.

    Args:
        folder: of the data set, which need not exist.
        needed: bytes of all records, at least.

    Raises:
        StorageError: the disk has less room for what is not there yet.
    """
    if is_remote(folder):
        return
    place = local_path(folder)
    try:
        there = sum(shard.stat().st_size for shard in place.glob("*.tfrecord"))
        parent = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(parent).free
    except OSError as error:
        raise as_storage_error(error, place) from error
    if needed - there > free:
        raise StorageError(
            f"{place}: the records take {needed - there:,} bytes, of which {free:,} are free; "
            "free some space or choose another place with --root"
        )


def writing_threads(folder: str, shard_bytes: int, record_bytes: int, memory: int, threads: int) -> int:
    """Threads that may write shards at a time: `threads`, or fewer for want of memory or temporary disk.

    Args:
        folder: where they go; those for a store wait in the temporary directory until they are whole.
        shard_bytes: of the largest shard.
        record_bytes: of a record.
        memory: bytes that records may take.

    Raises:
        StorageError: not one shard fits into the temporary directory.
    """
    threads = max(1, min(threads, memory // (_COPIES * record_bytes)))
    if not is_remote(folder) or not shard_bytes:
        return threads
    waiting = Path(tempfile.gettempdir())
    free = shutil.disk_usage(waiting).free
    if shard_bytes > free:
        raise StorageError(
            f"{waiting}: needs {shard_bytes:,} bytes for a shard on its way to the store, of which {free:,} "
            "are free; free some, or name another folder in TMPDIR"
        )
    return min(threads, free // shard_bytes)

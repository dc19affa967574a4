"""Finds what of a data set is there already, so that only the rest is written."""

import concurrent.futures
from collections.abc import Sequence
from pathlib import Path

import google_crc32c

from optduel.components.core.errors import DataError, ExperimentError
from optduel.components.core.narration import say
from optduel.components.prepare.shards import ShardPlan
from optduel.components.records.integrity import inspect_shards
from optduel.components.records.manifest import Manifest, Records, Shard, load_manifest
from optduel.components.records.record_files import sound_examples
from optduel.components.records.tfrecord import frame
from optduel.components.storage.local import as_storage_error
from optduel.components.storage.location import Location, is_remote, join, local_path
from optduel.components.storage.objects import stat

_THREADS = 8


def known_manifest(location: Location) -> Manifest | None:
    """The manifest at `location`, or None where it is unreadable; says so then."""
    try:
        return load_manifest(location)
    except (DataError, ExperimentError) as error:
        say(f"prepare: writing the data set again: {str(error).splitlines()[0]}")
        return None


def intact_shards(records: Records) -> dict[str, Shard]:
    """The shards that are as the manifest says, by file name; says which are not.

    Raises:
        StorageError: the store cannot be reached.
    """
    shards = [shard for split in records.manifest.splits.values() for shard in split.shards]
    findings = inspect_shards(records, shards)
    reasons = dict(findings.damage)
    for shard in findings.unproved:
        reasons[shard] = f"{records.place(shard)}: its store tells no checksum"
    for shard in shards:
        if shard in reasons:
            say(f"prepare: writing again: {reasons[shard]}")
    return {shard.file: shard for shard in shards if shard not in reasons}


def finished_shards(folder: str, plans: Sequence[ShardPlan]) -> dict[str, Shard]:
    """The shards that an interrupted writer of the same data set has finished, by file name.

    A shard appears under its name when it is whole, and its folder is named by its content, so what is there
    is right unless it was damaged since. A local one is read, each record with its checksum; of a stored one
    the store's checksum is taken, if one of our writers left it there.

    Raises:
        StorageError: the folder cannot be read.
    """

    def find(plan: ShardPlan) -> Shard | None:
        place = join(folder, plan.file)
        return _stored_shard(place, plan) if is_remote(place) else _local_shard(local_path(place), plan)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = {shard.file: shard for shard in pool.map(find, plans) if shard}
    if found:
        say(f"prepare: going on after {len(found)} of {len(plans)} shards")
    return found


def _stored_shard(place: str, plan: ShardPlan) -> Shard | None:
    entry = stat(place)
    if entry is None or entry.crc32c is None or entry.writer is None:
        return None
    return Shard(file=plan.file, records=len(plan.positions), bytes=entry.bytes, crc32c=entry.crc32c)


def _local_shard(path: Path, plan: ShardPlan) -> Shard | None:
    checksum = size = records = 0
    try:
        for _, example in sound_examples(path):
            record = frame(example)
            checksum = google_crc32c.extend(checksum, record)
            size += len(record)
            records += 1
        is_whole = records == len(plan.positions) and size == path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise as_storage_error(error, path) from error
    return Shard(file=plan.file, records=records, bytes=size, crc32c=f"{checksum:08x}") if is_whole else None

"""Writes the TFRecord shards of a data set: several threads, a shard each, one image of it in memory."""

import concurrent.futures
import contextlib
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from optduel.components.core import DataError, ExperimentError, say
from optduel.components.prepare.decoders import Decoders
from optduel.components.prepare.image import UnusableImageError
from optduel.components.prepare.progress import ProgressBar
from optduel.components.prepare.reading import Images
from optduel.components.prepare.split import ImageContent
from optduel.components.prepare.survey import Traits
from optduel.components.prepare.threads import in_threads
from optduel.components.records import (
    Manifest,
    Records,
    Shard,
    frame,
    frame_image,
    inspect_shards,
    load_manifest,
    sound_examples,
)
from optduel.components.settings import Data
from optduel.components.storage import (
    Location,
    as_storage_error,
    is_remote,
    join,
    local_path,
    publishing,
    stat,
)

SHARD_BYTES = 256 * 2**20
"""About what a shard takes at most: an upload, or a copy that broke off, is not begun anew for more."""

_RECORD_OVERHEAD = 48
"""Bytes around the image, at least: label, lengths, names of features, checksums."""


class _StoppedError(Exception):
    """Another shard failed; this one is given up."""


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be written: its file name and its examples, as positions in the source."""

    file: str
    positions: Sequence[int]


def plan_shards(split: str, positions: Sequence[int], shards: int) -> list[ShardPlan]:
    """Deals the examples of a split out: example p becomes record p // `shards` of shard p % `shards`."""
    return [
        ShardPlan(f"{split}-{shard:05d}-of-{shards:05d}.tfrecord", positions[shard::shards])
        for shard in range(shards)
    ]


def record_bytes(data: Data) -> int:
    """About what a record takes; JPEG files of quality 95 take a quarter of their pixels, or less."""
    pixels = math.prod(data.image_size) * data.channels
    return _RECORD_OVERHEAD + (pixels if data.encoding == "raw" else pixels // 4)


def least_record_bytes(data: Data) -> int:
    """What a record takes at least: JPEG files of plain images are small."""
    return _RECORD_OVERHEAD + (math.prod(data.image_size) * data.channels if data.encoding == "raw" else 0)


def count_shards(records: int, data: Data) -> int:
    """Shards of a split: `data.shards`, or so many times as many that each takes no more than SHARD_BYTES.

    So the workers that divide `data.shards` divide it, too.
    """
    wanted = -(-records * record_bytes(data) // SHARD_BYTES)
    return data.shards * max(1, -(-wanted // data.shards))


@dataclass
class Written:
    """Shards, and what was wrong with images that were to be in them.

    Attributes:
        shards: the manifest's entries, in the order of the plans; none if there is a reason.
        reasons: of images that cannot be decoded, by position.
    """

    shards: list[Shard]
    reasons: dict[int, str]


@contextlib.contextmanager
def shards_of(
    images: Images,
    contents: Mapping[int, ImageContent],
    folder: str,
    plans: Sequence[ShardPlan],
    threads: int,
    decoders: Decoders,
    traits: Traits,
    is_checked: bool,
) -> Iterator[Written]:
    """Writes every planned shard; each appears whole in `folder`, which may lie in a store.

    Where the images were not decoded before, the shards are held back, and appear when the body ends without
    an exception; none does where one image cannot be decoded.

    Args:
        traits: receives what the images show.
        is_checked: the images were decoded before; so each shard appears as soon as it is written.

    Raises:
        StorageError: the folder cannot be written, for example because the disk is full.
        DataError: the source changed while it was read.
    """
    writer = _Writer(images, contents, folder, decoders, traits)
    made = [] if is_remote(folder) else _absent_folders(local_path(folder))
    held: dict[str, contextlib.ExitStack] = {}
    try:
        with ProgressBar("writing", sum(len(plan.positions) for plan in plans)) as progress:

            def write(plan: ShardPlan) -> Shard:
                shard, opened = writer.write(plan, progress)
                held[plan.file] = opened
                if is_checked:
                    for position, reason in writer.reasons.items():
                        name = images.source.examples[position].id
                        raise DataError(f"{name}: {reason}, which it was not before; run prepare again")
                    opened.close()
                return shard

            shards = list(in_threads(write, plans, threads, writer.stopping))
        yield Written([] if writer.reasons else shards, writer.reasons)
        if not writer.reasons and not is_checked:
            there = finished_shards(folder, plans)
            wanted = [held[shard.file] for shard in shards if there.get(shard.file) != shard]
            list(in_threads(contextlib.ExitStack.close, wanted, threads, threading.Event()))
    finally:
        for opened in held.values():
            with contextlib.suppress(_StoppedError), opened:
                raise _StoppedError
        for made_folder in made:
            with contextlib.suppress(OSError):  # not empty
                made_folder.rmdir()


class _Writer:
    """Makes the records of shards."""

    def __init__(
        self,
        images: Images,
        contents: Mapping[int, ImageContent],
        folder: str,
        decoders: Decoders,
        traits: Traits,
    ) -> None:
        self.reasons: dict[int, str] = {}
        self.stopping = threading.Event()
        self._images = images
        self._contents = contents
        self._folder = folder
        self._decoders = decoders
        self._traits = traits

    def write(self, plan: ShardPlan, progress: ProgressBar) -> tuple[Shard, contextlib.ExitStack]:
        """Writes one shard, which appears when what is returned is closed."""
        checksum = size = 0
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(publishing(join(self._folder, plan.file)))
            images = self._images.again(plan.positions, self._contents)
            extracts = self._decoders.decode(images, is_written=True)
            for position, extract in zip(plan.positions, extracts, strict=True):
                if self.stopping.is_set():
                    raise _StoppedError
                if isinstance(extract, UnusableImageError):
                    self.reasons[position] = str(extract)
                else:
                    self._traits.note(position, extract)
                    record = frame_image(extract.content, self._contents[position].label)
                    for part in record if not self.reasons else ():
                        file.write(part)
                        checksum = google_crc32c.extend(checksum, part)
                        size += len(part)
                progress.advance()
            if not self.reasons and not is_remote(self._folder):
                # Now, while other threads decode.
                file.flush()
                os.fsync(file.fileno())
            shard = Shard(file=plan.file, records=len(plan.positions), bytes=size, crc32c=f"{checksum:08x}")
            return shard, opened.pop_all()


def _absent_folders(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, the innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


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

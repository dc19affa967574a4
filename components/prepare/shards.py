"""Writes the TFRecord shards of a data set: several threads, a shard each, one image of it in memory."""

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import google_crc32c
from PIL import Image

from optduel.components.core.errors import DataError
from optduel.components.prepare.image import decode_resized
from optduel.components.prepare.progress import Progress
from optduel.components.prepare.sources.source import Source
from optduel.components.prepare.split import Content
from optduel.components.prepare.threads import in_threads
from optduel.components.records.manifest import Shard
from optduel.components.records.tfrecord import frame, serialize_example
from optduel.components.settings.experiment import Data
from optduel.components.storage.location import join
from optduel.components.storage.objects import publishing

JPEG_QUALITY = 95
"""Pillow's upper end: above it files grow without a visible gain."""


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


def encode_pixels(image: Image.Image, encoding: str) -> bytes:
    """The bytes of an example's `image` feature: rows of pixels with interleaved channels, or a JPEG file."""
    if encoding == "raw":
        return image.tobytes()
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


def write_shards(
    source: Source,
    contents: Mapping[int, Content],
    data: Data,
    folder: str,
    plans: Sequence[ShardPlan],
    threads: int,
) -> list[Shard]:
    """Writes every planned shard into `folder`, which may lie in a store; each appears whole.

    Returns:
        The manifest's entries, in the order of `plans`.

    Raises:
        StorageError: the folder cannot be written, for example because the disk is full.
        DataError: the source changed while it was read.
    """
    stopping = threading.Event()
    height, width = data.image_size

    def examples(plan: ShardPlan) -> Iterator[bytes]:
        for position in plan.positions:
            encoded = source.read(position)
            content = contents[position]
            # The fingerprint would otherwise name a content that is not in the records.
            if hashlib.sha256(encoded).digest() != content.digest:
                raise DataError(
                    f"{source.examples[position].id}: changed while it was read; run prepare again"
                )
            image = decode_resized(encoded, height, width, data.channels)
            yield serialize_example(encode_pixels(image, data.encoding), content.label)

    def write(plan: ShardPlan) -> Shard:
        checksum = size = 0
        with publishing(join(folder, plan.file)) as file:
            for example in examples(plan):
                if stopping.is_set():
                    raise _StoppedError
                record = frame(example)
                file.write(record)
                checksum = google_crc32c.extend(checksum, record)
                size += len(record)
                progress.advance()
        return Shard(file=plan.file, records=len(plan.positions), bytes=size, crc32c=f"{checksum:08x}")

    with Progress("writing", sum(len(plan.positions) for plan in plans)) as progress:
        return list(in_threads(write, plans, threads, stopping))

"""Random access to the examples of a split in local files; memory does not grow with the data set."""

import concurrent.futures
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from optduel.components.core import DataError, usable_cores
from optduel.components.records.encodings import Encoding, JpegRecords, RawRecords, decode_jpeg
from optduel.components.records.manifest import Manifest, Records, Shard
from optduel.components.records.open_files import OpenFile, OpenFiles
from optduel.components.records.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame, parse_example
from optduel.components.storage import read_part

ALIGNMENT = 64
"""Bytes; what TensorFlow's kernels ask of the start of a tensor."""

FILES_LIMIT = 64
"""Files that a reader keeps open, and that a batch opens at a time.

A process may have 1024 as a rule; it has two readers, which gather two batches at a time.
"""


class LocalShards(Protocol):
    """A data set whose shards can be opened: local `Records`, or what `stage` returns."""

    @property
    def manifest(self) -> Manifest:
        """What the data set holds."""

    def path(self, shard: Shard) -> Path:
        """Where a shard is once it is there; may wait for it."""


class SplitReader:
    """Random access to the examples of one split; opens only the shards that are asked of it.

    Safe from several threads at once.

    Args:
        source: the data set.
        split: a name in its manifest.
        threads: that decode JPEG records; as many as there are cores when None.
    """

    def __init__(self, source: LocalShards, split: str, threads: int | None = None) -> None:
        self._source = source
        self._manifest = source.manifest
        self._split = source.manifest.splits[split]
        self._files = OpenFiles(FILES_LIMIT)
        self._encodings: dict[int, Encoding] = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(threads or usable_cores(), "decode")

    def __len__(self) -> int:
        return self._split.records

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self._manifest.image_shape

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Records of each shard."""
        return tuple(shard.records for shard in self._split.shards)

    def read(self, shards: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gathers examples.

        Args:
            shards: int [n], the shard of each example.
            rows: int [n], its record within that shard.

        Returns:
            images uint8 [n, height, width, channels] and labels int32 [n], in the order asked for.

        Raises:
            DataError: a shard is not what the manifest says.
            StorageError: a shard cannot be read, or could not be staged.
        """
        images = _aligned((len(shards), *self._manifest.image_shape))
        labels = np.empty(len(shards), np.int32)
        wanted = np.unique(shards)
        # A batch may be spread over more shards than a process may have open.
        for start in range(0, len(wanted), FILES_LIMIT):
            some = wanted[start : start + FILES_LIMIT]
            places = slice(None) if len(some) == len(wanted) else np.isin(shards, some).nonzero()[0]
            labels[places] = self._read_from(some.tolist(), shards[places], rows[places], images, places)
        return images, labels

    def _read_from(
        self,
        numbers: list[int],
        shards: np.ndarray,
        rows: np.ndarray,
        images: np.ndarray,
        places: "slice | np.ndarray",
    ) -> np.ndarray:
        """Fills the images at `places` from shards that are open at the same time; returns their labels."""
        opened = {number: self._open(number) for number in numbers}

        def read_one(shard: int, row: int, place: int) -> int:
            file, encoding = opened[shard]
            return encoding.read(file, row, images[place])

        indices = range(len(images))[places] if isinstance(places, slice) else places.tolist()
        # Raw records are copied by the kernel, which threads would only make wait for one another.
        each = map if self._manifest.encoding == "raw" else self._threads.map
        return np.fromiter(each(read_one, shards.tolist(), rows.tolist(), indices), np.int32, len(shards))

    def _open(self, number: int) -> tuple[OpenFile, Encoding]:
        shard = self._split.shards[number]
        file = self._files.get(self._source.path(shard))
        encoding = self._encodings.get(number)
        if encoding is None:
            is_raw = self._manifest.encoding == "raw"
            encoding = RawRecords(self._manifest, shard) if is_raw else JpegRecords(shard, file)
            self._encodings[number] = encoding
        return file, encoding


def first_examples(records: Records, shard: Shard, most_bytes: int) -> Iterator[tuple[np.ndarray, int]]:
    """The first examples of a shard, wherever it lies, of which no more is read than is asked for.

    Args:
        records: the data set.
        most_bytes: of the shard that are read.

    Yields:
        Pixels, uint8 [height, width, channels], and label.

    Raises:
        DataError: a record is damaged, by its own checksum.
        StorageError: the shard cannot be read.
    """
    size = min(shard.bytes, most_bytes)
    content = read_part(records.place(shard), 0, size) if size else b""
    shape = records.manifest.image_shape
    position = 0
    while position + HEADER_BYTES <= size:
        end = (
            position
            + HEADER_BYTES
            + int.from_bytes(content[position : position + 8], "little")
            + FOOTER_BYTES
        )
        if end > size and size < shard.bytes:
            return
        example = content[position + HEADER_BYTES : end - FOOTER_BYTES]
        if content[position:end] != frame(example):
            raise DataError(f"{records.place(shard)}: is damaged at byte {position}; run prepare again")
        image, label = parse_example(example)
        if records.manifest.encoding == "jpeg":
            yield decode_jpeg(image, shape), label
        else:
            yield np.frombuffer(image, np.uint8).reshape(shape), label
        position = end


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty uint8 array that TensorFlow takes over as it is; one that starts elsewhere it copies."""
    size = math.prod(shape)
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].reshape(shape)

"""Random access to the examples of a split in local files; memory does not grow with the data set."""

import concurrent.futures
import math
from pathlib import Path
from typing import Protocol

import numpy as np

from optduel.components.core import usable_cores
from optduel.components.records.encodings import Encoding, JpegRecords, RawRecords
from optduel.components.records.manifest import Manifest, Shard
from optduel.components.records.open_files import OpenFile, OpenFiles

ALIGNMENT = 64
"""Bytes; what TensorFlow's kernels ask of the start of a tensor."""

FILES_LIMIT = 128
"""Files that a reader keeps open; a process may have 1024 as a rule, and has two readers."""


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
        numbers = shards.tolist()
        opened = {number: self._open(number) for number in set(numbers)}

        def read_one(shard: int, row: int, image: np.ndarray) -> int:
            file, encoding = opened[shard]
            return encoding.read(file, row, image)

        # Raw records are copied by the kernel, which threads would only make wait for one another.
        each = map if self._manifest.encoding == "raw" else self._threads.map
        return images, np.fromiter(each(read_one, numbers, rows.tolist(), images), np.int32, len(numbers))

    def _open(self, number: int) -> tuple[OpenFile, Encoding]:
        shard = self._split.shards[number]
        file = self._files.get(self._source.path(shard))
        encoding = self._encodings.get(number)
        if encoding is None:
            is_raw = self._manifest.encoding == "raw"
            manifest = self._manifest
            encoding = RawRecords(manifest, shard) if is_raw else JpegRecords(manifest, shard, file)
            self._encodings[number] = encoding
        return file, encoding


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty uint8 array that TensorFlow takes over as it is; one that starts elsewhere it copies."""
    size = math.prod(shape)
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].reshape(shape)

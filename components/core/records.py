"""Records: TFRecord shards of images and labels, the manifest that describes them, and their reader.

Every record is a serialized tf.train.Example with the features `image` (bytes) and `label` (int64). With
the encoding "raw" all records of a data set have one length and the fields stand at fixed offsets, so that
a batch is gathered from a memory map without parsing or decoding anything; any TFRecord reader works too.
Example p of a split is record p // S of shard p % S, S being the number of shards.
"""

import concurrent.futures
import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import google_crc32c
import numpy as np
from PIL import Image

from components.core.authoring import validate
from components.core.errors import DataError
from components.core.experiment import Section
from components.core.storage import local_path, read
from components.core.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    LABEL_BYTES,
    decode_label_bytes,
    parse_example,
)

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "validation", "test")
_READ_BYTES = 1 << 22


class Shard(Section):
    """One TFRecord file: name in the data set's folder, records, bytes, CRC-32C of the whole file (hex)."""

    file: str
    records: int
    bytes: int
    crc32c: str


class RecordsSplit(Section):
    """One split: its records in total and per class (in the order of `Manifest.classes`), and its shards."""

    records: int
    class_counts: tuple[int, ...]
    shards: tuple[Shard, ...]


class Skipped(Section):
    """A source image that was left out, and why."""

    image: str
    reason: str


class Duplicates(Section):
    """Exact duplicates among the source images: they were put into one split, so that no split leaks.

    Attributes:
        groups: sets of images with identical content.
        images: images in those sets.
        conflicting: images whose copies carry different classes.
    """

    groups: int
    images: int
    conflicting: tuple[str, ...] = ()


class Manifest(Section):
    """Everything a reader needs to know of a data set; written last: without one the data set does not exist.

    Attributes:
        fingerprint: SHA-256 over source content, split, size, encoding and writer version.
        source: the source in one line, for people.
        classes: names, in the order of the labels.
        image_shape: height, width, channels; pixels are uint8 0..255.
        example_bytes: length of every serialized Example; None with the encoding "jpeg".
        image_offset: where the pixels start in an Example; None with the encoding "jpeg".
        label_offset: where the label's varint starts in an Example; None with the encoding "jpeg".
        splits: by name; a split without records is absent.
    """

    schema_version: Literal[1] = 1
    name: str
    fingerprint: str
    source: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    encoding: Literal["raw", "jpeg"]
    example_bytes: int | None
    image_offset: int | None
    label_offset: int | None
    splits: dict[str, RecordsSplit]
    skipped: tuple[Skipped, ...] = ()
    duplicates: Duplicates

    @property
    def final_split(self) -> Literal["test", "validation"]:
        """The split that final metrics are taken on: "test", or "validation" for want of one."""
        return "test" if "test" in self.splits else "validation"


class Records(Section):
    """A data set that exists: where it is and its manifest. What travels between stages."""

    location: str
    manifest: Manifest

    @property
    def folder(self) -> Path:
        """The folder that holds manifest and shards."""
        return local_path(self.location)


def load_records(path: Path) -> Records:
    """Reads the small file that stands for a data set between stages.

    Raises:
        StorageError: it cannot be read.
        DataError: it is not such a file, or of another schema.
    """
    document = _parse_json(path)
    manifest = document.get("manifest")
    _check_schema(manifest if isinstance(manifest, dict) else {}, path)
    return validate(Records, document, str(path))


def load_manifest(path: Path) -> Manifest:
    """Reads a data set's own manifest. Raises as `load_records` does."""
    document = _parse_json(path)
    _check_schema(document, path)
    return validate(Manifest, document, str(path))


def _check_schema(manifest: Mapping[str, object], path: Path) -> None:
    schema = manifest.get("schema_version")
    if schema != SCHEMA:
        raise DataError(f"{path}: schema {schema}, this code reads {SCHEMA}; run prepare again")


def _parse_json(path: Path) -> dict[str, object]:
    try:
        document = json.loads(read(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); run prepare again") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a manifest; run prepare again")
    return document


def verify_shards(records: Records, shards: Sequence[Shard]) -> None:
    """Compares size and CRC-32C of shard files with the manifest.

    Raises:
        DataError: names every shard that is missing or differs.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(lambda shard: _shard_problem(records, shard), shards)
        problems = [problem for problem in found if problem]
    if problems:
        remedy = "delete the data set's folder and run prepare again"
        headline = f"{records.location}: {len(problems)} damaged shard(s); {remedy}"
        raise DataError("\n".join([headline, *problems]))


def _shard_problem(records: Records, shard: Shard) -> str | None:
    path = records.folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{path}: {size} bytes, the manifest says {shard.bytes}"
        checksum = 0
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                checksum = google_crc32c.extend(checksum, block)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if f"{checksum:08x}" != shard.crc32c:
        return f"{path}: CRC-32C {checksum:08x}, the manifest says {shard.crc32c}"
    return None


class SplitReader:
    """Random access to the examples of one split; opens only the shards that are asked of it.

    Args:
        records: the data set.
        split: a name in `records.manifest.splits`.
    """

    def __init__(self, records: Records, split: str) -> None:
        self._manifest = records.manifest
        self._folder = records.folder
        self._split = records.manifest.splits[split]
        self._shards: dict[int, _RawShard | _JpegShard] = {}

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
        """
        images = np.empty((len(shards), *self._manifest.image_shape), np.uint8)
        labels = np.empty(len(shards), np.int32)
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            self._open(int(shard)).read(rows[places], places, images, labels)
        return images, labels

    def _open(self, shard: int) -> "_RawShard | _JpegShard":
        if shard not in self._shards:
            entry = self._split.shards[shard]
            kind = _RawShard if self._manifest.encoding == "raw" else _JpegShard
            self._shards[shard] = kind(self._folder / entry.file, entry, self._manifest)
        return self._shards[shard]


class _RawShard:
    """Records of one length: a matrix in a memory map, one row a record."""

    def __init__(self, path: Path, entry: Shard, manifest: Manifest) -> None:
        if manifest.example_bytes is None or manifest.image_offset is None or manifest.label_offset is None:
            raise DataError(f"{path}: raw records without offsets in the manifest; run prepare again")
        stride = HEADER_BYTES + manifest.example_bytes + FOOTER_BYTES
        if entry.bytes != stride * entry.records:
            raise DataError(f"{path}: {entry.bytes} bytes are not {entry.records} records of {stride} bytes")
        shape = (entry.records, stride)
        matrix = np.memmap(path, np.uint8, "r", shape=shape) if entry.records else np.empty(shape, np.uint8)
        image = HEADER_BYTES + manifest.image_offset
        label = HEADER_BYTES + manifest.label_offset
        self._pixels = matrix[:, image : image + int(np.prod(manifest.image_shape))]
        self._labels = decode_label_bytes(matrix[:, label : label + LABEL_BYTES])

    def read(self, rows: np.ndarray, places: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        images.reshape(len(images), -1)[places] = self._pixels[rows]
        labels[places] = self._labels[rows]


class _JpegShard:
    """Records of different lengths: an index of offsets, and a decoder."""

    def __init__(self, path: Path, entry: Shard, manifest: Manifest) -> None:
        self._data = np.memmap(path, np.uint8, "r") if entry.records else np.empty(0, np.uint8)
        self._mode = "RGB" if manifest.image_shape[2] == 3 else "L"
        self._examples: list[tuple[int, int]] = []
        position = 0
        while position < entry.bytes:
            (length,) = struct.unpack("<Q", self._data[position : position + 8].tobytes())
            self._examples.append((position + HEADER_BYTES, length))
            position += HEADER_BYTES + length + FOOTER_BYTES

    def read(self, rows: np.ndarray, places: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        for row, place in zip(rows, places, strict=True):
            start, length = self._examples[row]
            image, label = parse_example(self._data[start : start + length].tobytes())
            with Image.open(io.BytesIO(image), formats=("JPEG",)) as jpeg:
                images[place] = np.asarray(jpeg.convert(self._mode)).reshape(images.shape[1:])
            labels[place] = label

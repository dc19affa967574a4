"""What records are made of: the manifest that describes a data set, and the document that stands for it.

Every record is a serialized tf.train.Example with the features `image` (bytes) and `label` (int64). With
the encoding "raw" all records of a data set have one length and the fields stand at fixed offsets, so that
a batch is gathered without parsing or decoding anything; any TFRecord reader works too.
Example p of a split is record p // S of shard p % S, S being the number of shards.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from optduel.components.core import DataError
from optduel.components.settings import Section, validate
from optduel.components.storage import Location, join, local_path, read

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "validation", "test")


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
    """A data set that exists: where it is and its manifest. What travels between stages.

    Attributes:
        location: the folder that holds manifest and shards; a path or a URI.
    """

    location: str
    manifest: Manifest

    @property
    def folder(self) -> Path:
        """The folder of a local data set."""
        return local_path(self.location)

    def place(self, shard: Shard) -> str:
        """Where a shard lies; a path or a URI."""
        return join(self.location, shard.file)

    def path(self, shard: Shard) -> Path:
        """Where a shard of a local data set lies."""
        return self.folder / shard.file


def load_records(location: Location) -> Records:
    """Reads the small file that stands for a data set between stages.

    Raises:
        StorageError: it cannot be read.
        DataError: it is not such a file, or of another schema.
    """
    document = _parse_json(location)
    manifest = document.get("manifest")
    _check_schema(manifest if isinstance(manifest, dict) else {}, location)
    return validate(Records, document, str(location))


def load_manifest(location: Location) -> Manifest:
    """Reads a data set's own manifest. Raises as `load_records` does."""
    document = _parse_json(location)
    _check_schema(document, location)
    return validate(Manifest, document, str(location))


def _check_schema(manifest: Mapping[str, object], location: Location) -> None:
    schema = manifest.get("schema_version")
    if schema != SCHEMA:
        raise DataError(f"{location}: schema {schema}, this code reads {SCHEMA}; run prepare again")


def _parse_json(location: Location) -> dict[str, object]:
    try:
        document = json.loads(read(location))
    except ValueError as error:
        raise DataError(f"{location}: not JSON ({error}); run prepare again") from error
    if not isinstance(document, dict):
        raise DataError(f"{location}: not a manifest; run prepare again")
    return document

"""What records are made of: the manifest that describes a data set, and the document that stands for it.

Every record is a serialized tf.train.Example with the features `image` (bytes) and `label` (int64). With
the encoding "raw" all records of a data set have one length and the fields stand at fixed offsets, so that
a batch is gathered without parsing or decoding anything; any TFRecord reader works too.
Example p of a split is record p // S of shard p % S, S being the number of shards.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from optduel.components.core import DataError
from optduel.components.decoding import parse_object
from optduel.components.settings import Section, canonical_json, validate
from optduel.components.storage import Location, join, local_path, read

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "validation", "test")

_CHECKSUM = "checksum"
"""The key of the manifest's SHA-256, in the file beside its fields."""

_Count = Annotated[int, Field(ge=0)]
_SplitName = Annotated[str, Field(pattern=f"^({'|'.join(SPLITS)})$")]
_Length = Annotated[int, Field(ge=1)]


class Shard(Section):
    """One TFRecord file: name in the data set's folder, records, bytes, CRC-32C of the whole file (hex)."""

    file: Annotated[str, Field(pattern=r"^[a-z]+-[0-9a-z-]+\.tfrecord$")]
    records: _Count
    bytes: _Count
    crc32c: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]


class RecordsSplit(Section):
    """One split: its records in total and per class (in the order of `Manifest.classes`), and its shards."""

    records: _Count
    class_counts: tuple[_Count, ...]
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        for counts in (self.class_counts, [shard.records for shard in self.shards]):
            if counts and sum(counts) != self.records:
                raise ValueError(f"{self.records} records are not {sum(counts)}, the sum of the parts")
        return self


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


class Resemblance(Section):
    """Two images that look alike without being copies: their names, splits and classes."""

    images: tuple[str, str]
    splits: tuple[str, str]
    classes: tuple[str, str]


class Resemblances(Section):
    """Pairs of images that look alike, by their perceptual hashes.

    Attributes:
        searched: they were looked for; images smaller than the hash are not.
        is_complete: all were counted; where nearly all images are alike the search ends.
        pairs: how many.
        across: of which the images lie in two splits.
        conflicting: of which the images are of two classes.
        shown: the first ones, those across splits before the others.
    """

    searched: bool = False
    is_complete: bool = True
    pairs: _Count = 0
    across: _Count = 0
    conflicting: _Count = 0
    shown: tuple[Resemblance, ...] = ()


class Originals(Section):
    """What the images were before they became records, as far as it is known.

    Attributes:
        formats: images of each format, by content.
        widths: in pixels, upright: least, a quarter, median, three quarters, most.
        heights: likewise.
    """

    formats: dict[str, _Count] = {}
    widths: tuple[_Count, ...] = ()
    heights: tuple[_Count, ...] = ()


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
        remarks: what is worth knowing of the images and their splits, a sentence each.
    """

    schema_version: Literal[1] = 1
    name: str
    fingerprint: str
    source: str
    classes: tuple[str, ...]
    image_shape: tuple[_Length, _Length, Literal[1, 3]]
    encoding: Literal["raw", "jpeg"]
    example_bytes: _Count | None
    image_offset: _Count | None
    label_offset: _Count | None
    splits: dict[_SplitName, RecordsSplit]
    skipped: tuple[Skipped, ...] = ()
    duplicates: Duplicates
    resemblances: Resemblances = Resemblances()
    originals: Originals = Originals()
    remarks: tuple[str, ...] = ()

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


class RecordsOfSeeds(Section):
    """What travels between stages where every seed of the study draws a split of its own.

    Attributes:
        of_seeds: seeds with their data sets, in the study's order.
    """

    of_seeds: tuple[tuple[int, Records], ...]


def load_records(location: Location, seed: int | None = None) -> Records:
    """Reads the small file that stands for a data set between stages.

    Args:
        seed: of the study; of several data sets the one with this seed's split, the first one without it.

    Raises:
        StorageError: it cannot be read.
        DataError: it is not such a file, of another schema, or has no split of the seed.
    """
    document = _parse_json(location)
    if "of_seeds" in document:
        several = validate(RecordsOfSeeds, document, str(location)).of_seeds
        found = [records for one, records in several if seed in (None, one)]
        if not found:
            raise DataError(f"{location}: has no split of seed {seed}; run prepare again")
        return found[0]
    manifest = document.get("manifest")
    _check_schema(manifest if isinstance(manifest, dict) else {}, location)
    return validate(Records, document, str(location))


def encode_manifest(manifest: Manifest) -> bytes:
    """A data set's own manifest as a file: canonical JSON, with a checksum over all the rest."""
    document = manifest.model_dump(mode="json")
    return canonical_json({**document, _CHECKSUM: _sha256(document)}).encode()


def load_manifest(location: Location) -> Manifest:
    """Reads a data set's own manifest. Raises as `load_records` does, also where its checksum is another."""
    document = _parse_json(location)
    _check_schema(document, location)
    if document.pop(_CHECKSUM, None) != _sha256(document):
        raise DataError(f"{location}: was changed or damaged, its checksum is another; run prepare again")
    return validate(Manifest, document, str(location))


def _sha256(document: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _check_schema(manifest: Mapping[str, object], location: Location) -> None:
    schema = manifest.get("schema_version")
    if schema != SCHEMA:
        raise DataError(f"{location}: schema {schema}, this code reads {SCHEMA}; run prepare again")


def _parse_json(location: Location) -> dict[str, object]:
    try:
        return parse_object(read(location))
    except ValueError as error:
        raise DataError(f"{location}: {error}; run prepare again") from error

"""Identifies records and describes them: fingerprint and manifest."""

import hashlib
from collections import Counter
from collections.abc import Mapping

from optduel.components.prepare.shards import SHARD_BYTES, count_shards, plan_shards, record_bytes
from optduel.components.prepare.sources import Source
from optduel.components.prepare.split import Division, divide
from optduel.components.prepare.survey import Survey
from optduel.components.records import (
    SPLITS,
    Duplicates,
    Manifest,
    RecordsSplit,
    Shard,
    Skipped,
    example_offsets,
    serialize_example,
)
from optduel.components.settings import Data, canonical_json

WRITER_VERSION = 1
"""Part of the fingerprint; raised when the same source and settings give other records."""

_COPY = "has the same content as "
"""Begins the reason of an image that is left out for its copy in the test split."""


def fingerprint(source: Source, survey: Survey, data: Data) -> str:
    """SHA-256, in hexadecimal, over everything that determines the records.

    That is the content, class and declared split of every image, what cannot be one, and the settings; not
    the names of the images nor their order.
    """
    contents = hashlib.sha256()
    for line in sorted(
        f"{content.digest.hex()} {content.label} {content.is_test}\n" for content in survey.contents.values()
    ):
        contents.update(line.encode())
    document = {
        "writer_version": WRITER_VERSION,
        "contents": contents.hexdigest(),
        "problems": [problem.model_dump() for problem in survey.problems],
        "classes": source.classes,
        "settings": data.model_dump(mode="json", exclude={"source"}),
    }
    if len(survey.contents) * record_bytes(data) > data.shards * SHARD_BYTES:
        document["shard_bytes"] = SHARD_BYTES  # there may be more shards than the settings say
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def compose_manifest(
    source: Source,
    survey: Survey,
    data: Data,
    fingerprint: str,
    division: Division,
    shards: Mapping[str, Shard],
) -> Manifest:
    """The manifest of written records.

    Args:
        source: where the images came from.
        survey: the images that were used, and the problems.
        data: the settings.
        fingerprint: of all these.
        division: the images of each split.
        shards: what was written, by file name.
    """
    is_raw = data.encoding == "raw"
    pixels = bytes(data.image_size[0] * data.image_size[1] * data.channels)
    example = serialize_example(pixels, 0)
    image_offset, label_offset = example_offsets(example, pixels)
    splits = {}
    for name, positions in division.splits.items():
        counts = Counter(survey.contents[position].label for position in positions)
        plans = plan_shards(name, positions, count_shards(len(positions), data))
        splits[name] = RecordsSplit(
            records=len(positions),
            class_counts=tuple(counts[label] for label in range(len(source.classes))),
            shards=tuple(shards[plan.file] for plan in plans),
        )
    return Manifest(
        name=source.name,
        fingerprint=fingerprint,
        source=source.description,
        classes=source.classes,
        image_shape=(*data.image_size, data.channels),
        encoding=data.encoding,
        example_bytes=len(example) if is_raw else None,
        image_offset=image_offset if is_raw else None,
        label_offset=label_offset if is_raw else None,
        splits=splits,
        skipped=(*survey.problems, *_removed(source, division)),
        duplicates=_duplicates(source, survey, division),
    )


def difference(known: Manifest, source: Source, survey: Survey, data: Data, fingerprint: str) -> str | None:
    """What a manifest in a data set's place says otherwise than this source and settings do, or None.

    Names, of which the records hold none, may be others.

    Args:
        survey: the images, of which those that could not be decoded are still a part.
        fingerprint: of the source and the settings.
    """
    undecodable = {entry.image for entry in known.skipped if not entry.reason.startswith(_COPY)}
    contents = {
        position: content
        for position, content in survey.contents.items()
        if source.examples[position].id not in undecodable
    }
    division = divide(contents, source.classes, data.split)
    shards = {shard.file: shard for split in known.splits.values() for shard in split.shards}
    planned = [
        plan
        for split, positions in division.splits.items()
        for plan in plan_shards(split, positions, count_shards(len(positions), data))
    ]
    if {plan.file: len(plan.positions) for plan in planned} != {
        file: shard.records for file, shard in shards.items()
    }:
        return "shards"
    expected = compose_manifest(source, Survey(contents, ()), data, fingerprint, division, shards)
    names = {"source", "skipped", "duplicates"}
    differing = [
        field
        for field in Manifest.model_fields
        if field not in names and getattr(known, field) != getattr(expected, field)
    ]
    return ", ".join(differing) or None


def count_in_words(manifest: Manifest) -> str:
    """Images, classes and splits in one phrase."""
    splits = ", ".join(
        f"{manifest.splits[name].records} {name}" for name in SPLITS if name in manifest.splits
    )
    total = sum(split.records for split in manifest.splits.values())
    return f"{total} images of {len(manifest.classes)} classes ({splits})"


def _removed(source: Source, division: Division) -> tuple[Skipped, ...]:
    removed = (
        Skipped(
            image=source.examples[position].id,
            reason=f"{_COPY}{source.examples[test].id} of the test split",
        )
        for position, test in division.removed.items()
    )
    return tuple(sorted(removed, key=lambda skipped: skipped.image))


def _duplicates(source: Source, survey: Survey, division: Division) -> Duplicates:
    conflicting = (
        source.examples[position].id
        for positions in division.duplicates
        if len({survey.contents[position].label for position in positions}) > 1
        for position in positions
    )
    return Duplicates(
        groups=len(division.duplicates),
        images=sum(map(len, division.duplicates)),
        conflicting=tuple(sorted(conflicting)),
    )

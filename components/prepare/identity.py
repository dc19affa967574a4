"""Identifies records and describes them: fingerprint and manifest."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from optduel.components.prepare.image import OVERSIZE
from optduel.components.prepare.shards import SHARD_BYTES, count_shards, plan_shards, record_bytes
from optduel.components.prepare.sources import Source
from optduel.components.prepare.split import Division, ImageContent, divide
from optduel.components.prepare.survey import Survey, Traits
from optduel.components.records import (
    SPLITS,
    Duplicates,
    Manifest,
    Originals,
    RecordsSplit,
    Resemblance,
    Resemblances,
    Shard,
    Skipped,
    example_offsets,
    serialize_example,
)
from optduel.components.settings import Data, canonical_json

WRITER_VERSION = 1
"""Part of the fingerprint; raised when the same source and settings give other records."""

_COPY = "has the same content as "
"""Begins the reason of an image that is left out for its copy in a declared split."""

_ALIKE = "looks like "
"""Begins the reason of an image that is left out for one that it resembles, in a declared split."""

_NAMES_TOLD = 20
"""Class names in a line of narration."""

_SHOWN = 100
"""Pairs of images that look alike that the manifest names."""


def fingerprint(source: Source, survey: Survey, data: Data) -> str:
    """SHA-256, in hexadecimal, over everything that determines the records.

    That is the content, class and declared split of every image, what cannot be one, and the settings; not
    the names of the images nor their order.
    """
    contents = hashlib.sha256()
    for line in sorted(
        f"{content.digest.hex()} {content.label} {_place_of(content)}\n"
        for content in survey.contents.values()
    ):
        contents.update(line.encode())
    settings = data.model_dump(mode="json", exclude={"source"})
    if data.near_duplicates == "tell":
        del settings["near_duplicates"]  # which changes no record
    document = {
        "writer_version": WRITER_VERSION,
        "contents": contents.hexdigest(),
        "problems": [problem.model_dump() for problem in survey.problems],
        "classes": source.classes,
        "settings": settings,
    }
    if len(survey.contents) * record_bytes(data) > data.shards * SHARD_BYTES:
        document["shard_bytes"] = SHARD_BYTES  # there may be more shards than the settings say
    if "JPEG" in survey.formats.values():
        document["jpeg_oversize"] = OVERSIZE
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _place_of(content: ImageContent) -> str:
    """What is declared of an image's split and group."""
    declared = str(content.split == "test") if content.split in (None, "test") else content.split
    return declared if content.group is None else f"{declared} {json.dumps(content.group)}"


def compose_manifest(
    source: Source,
    survey: Survey,
    data: Data,
    fingerprint: str,
    division: Division,
    shards: Mapping[str, Shard],
    resemblances: Resemblances,
    originals: Originals,
    remarks: Sequence[str],
) -> Manifest:
    """The manifest of written records.

    Args:
        source: where the images came from.
        survey: the images that were used, and the problems.
        data: the settings.
        fingerprint: of all these.
        division: the images of each split.
        shards: what was written, by file name.
        resemblances: as `describe_pairs` tells them.
        originals: as `describe_originals` tells them.
        remarks: on the images.
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
        resemblances=resemblances,
        originals=originals,
        remarks=(*remarks, *_on_splits(survey, data, division)),
    )


def describe_pairs(
    source: Source, division: Division, pairs: Sequence[tuple[int, int]], searched: bool, is_complete: bool
) -> Resemblances:
    """Counts pairs of images that look alike, and names the first of them.

    Args:
        pairs: of positions, in any order.
        searched: they were looked for.
        is_complete: these are all.
    """
    split_of = {position: name for name, positions in division.splits.items() for position in positions}
    told = []
    for pair in pairs:
        if all(position in split_of for position in pair):
            first, second = sorted(pair, key=lambda position: source.examples[position].id)
            labels = [source.classes[source.examples[position].label] for position in (first, second)]
            told.append(
                Resemblance(
                    images=(source.examples[first].id, source.examples[second].id),
                    splits=(split_of[first], split_of[second]),
                    classes=(labels[0], labels[1]),
                )
            )
    across = [pair for pair in told if pair.splits[0] != pair.splits[1]]
    conflicting = [pair for pair in told if pair.classes[0] != pair.classes[1]]
    shown = sorted(
        told,
        key=lambda pair: (pair.splits[0] == pair.splits[1], pair.classes[0] == pair.classes[1], pair.images),
    )
    return Resemblances(
        searched=searched,
        is_complete=is_complete,
        pairs=len(told),
        across=len(across),
        conflicting=len(conflicting),
        shown=tuple(shown[:_SHOWN]),
    )


def describe_originals(survey: Survey, traits: Traits, division: Division) -> Originals:
    """Formats and sizes of the images that are divided, once these were decoded."""
    positions = [position for of_split in division.splits.values() for position in of_split]
    if not positions:
        return Originals()
    formats = Counter(survey.formats[position] for position in positions)
    marks = np.quantile(traits.sizes[positions], [0, 0.25, 0.5, 0.75, 1], axis=0, method="nearest")
    widths, heights = marks.T.tolist()
    return Originals(formats=dict(sorted(formats.items())), widths=widths, heights=heights)


def _on_splits(survey: Survey, data: Data, division: Division) -> list[str]:
    """How the splits came about, where the source or groups had a say."""
    declared = sorted(
        {content.split for content in survey.contents.values() if content.split}, key=SPLITS.index
    )
    groups = {content.group for content in survey.contents.values()} - {None}
    told = []
    if declared and division.drawn:
        drawn = " and ".join(name for name in division.drawn if name not in declared)
        told.append(
            f"The source declares {', '.join(declared)}; {drawn} was drawn from its training images, by "
            "data.split."
        )
    elif declared:
        told.append(f"The splits are the source's own: {', '.join(declared)}.")
    if "test" in declared and data.split.test:
        told.append(f"data.split.test = {data.split.test:g} is not used: the source has a test split.")
    if groups:
        told.append(f"{len(groups):,} groups of images are kept whole, each in one split.")
    if division.drawn and (groups or data.near_duplicates == "move"):
        told.append(
            f"A split's share of a class is up to {100 * division.deviation:.1f} points from data.split, as "
            "what belongs together lies in one split."
        )
    return told


def difference(known: Manifest, source: Source, survey: Survey, data: Data, fingerprint: str) -> str | None:
    """What a manifest in a data set's place says otherwise than this source and settings do, or None.

    Names, of which the records hold none, may be others.

    Args:
        survey: the images, of which those that could not be decoded are still a part.
        fingerprint: of the source and the settings.
    """
    if data.near_duplicates == "move":
        return None  # what was moved is not known before all images are decoded
    contents = known_contents(known, source, survey)
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
    decodable = Survey(contents, (), {})
    expected = compose_manifest(
        source,
        decodable,
        data,
        fingerprint,
        division,
        shards,
        known.resemblances,
        known.originals,
        known.remarks,
    )
    names = {"source", "skipped", "duplicates", "resemblances", "originals", "remarks"}
    differing = [
        field
        for field in Manifest.model_fields
        if field not in names and getattr(known, field) != getattr(expected, field)
    ]
    return ", ".join(differing) or None


def known_contents(known: Manifest, source: Source, survey: Survey) -> dict[int, ImageContent]:
    """The images that are in a manifest's records, or copies of them: those that could be decoded then."""
    undecodable = {entry.image for entry in known.skipped if not entry.reason.startswith((_COPY, _ALIKE))}
    return {
        position: content
        for position, content in survey.contents.items()
        if source.examples[position].id not in undecodable
    }


def list_names(classes: Sequence[str]) -> str:
    """The first class names, and how many more there are."""
    shown = ", ".join(classes[:_NAMES_TOLD])
    return shown if len(classes) <= _NAMES_TOLD else f"{shown} and {len(classes) - _NAMES_TOLD:,} more"


def count_in_words(manifest: Manifest) -> str:
    """Images, classes and splits in one phrase."""
    splits = ", ".join(
        f"{manifest.splits[name].records} {name}" for name in SPLITS if name in manifest.splits
    )
    total = sum(split.records for split in manifest.splits.values())
    return f"{total} images of {len(manifest.classes)} classes ({splits})"


def _removed(source: Source, division: Division) -> tuple[Skipped, ...]:
    split_of = {position: name for name, positions in division.splits.items() for position in positions}
    removed = (
        Skipped(
            image=source.examples[position].id,
            reason=f"{words}{source.examples[other].id} of the {split_of.get(other, 'test')} split",
        )
        for words, gone in ((_COPY, division.removed), (_ALIKE, division.set_aside))
        for position, other in gone.items()
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

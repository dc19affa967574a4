"""Records in words: what the card of `prepare` and the report both say of a data set."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from optduel.components.records.manifest import (
    SPLITS,
    Duplicates,
    Manifest,
    Records,
    Resemblance,
    Resemblances,
)

DESCRIPTION_TEMPLATES = Path(__file__).parent / "templates"
"""Holds `records.html`, which renders a `RecordsDescription` named `records` on any page."""

NAMES_SHOWN = 20
"""Images left out, or with copies of another class, that a page names; the manifest has all."""


@dataclass(frozen=True)
class RecordsDescription:
    """The data set in words.

    Attributes:
        facts: name and value.
        splits: names, in the order of SPLITS.
        counts: name of each class, its images in each split, and in total.
        totals: images of each split.
        largest: images of the largest class.
        remarks: what is worth knowing of images, splits, duplicates and omissions, a sentence each.
        resemblances: the first pairs of images that look alike.
        conflicting: the first images with copies of another class.
        skipped: image and reason of the first ones left out.
    """

    facts: list[tuple[str, str]]
    splits: list[str]
    counts: list[tuple[str, list[int], int]]
    totals: list[int]
    largest: int
    remarks: list[str]
    resemblances: list[Resemblance]
    conflicting: list[str]
    skipped: list[tuple[str, str]]


def describe(records: Records) -> RecordsDescription:
    """Describes records, from their manifest alone."""
    manifest = records.manifest
    splits = [name for name in SPLITS if name in manifest.splits]
    per_split = [manifest.splits[name].class_counts for name in splits]
    counts = [
        (name, [column[index] for column in per_split], sum(column[index] for column in per_split))
        for index, name in enumerate(manifest.classes)
    ]
    totals = [manifest.splits[name].records for name in splits]
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    height, width, channels = manifest.image_shape
    return RecordsDescription(
        facts=[
            ("source", manifest.source),
            ("images", f"{sum(totals):,} in {len(manifest.classes):,} classes"),
            ("image shape", f"{height} x {width} pixels, {'grey' if channels == 1 else 'red-green-blue'}"),
            ("encoding", manifest.encoding),
            ("size", f"{sum(shard.bytes for shard in shards):,} bytes in {len(shards):,} shards"),
            ("place", records.location),
            ("data fingerprint", manifest.fingerprint),
        ],
        splits=splits,
        counts=counts,
        totals=totals,
        largest=max(total for _, _, total in counts),
        remarks=[
            *manifest.remarks,
            *_on_duplicates(manifest.duplicates),
            *_on_resemblances(manifest.resemblances),
            _on_omissions(manifest),
        ],
        resemblances=list(manifest.resemblances.shown[:NAMES_SHOWN]),
        conflicting=list(manifest.duplicates.conflicting[:NAMES_SHOWN]),
        skipped=[(entry.image, entry.reason) for entry in manifest.skipped[:NAMES_SHOWN]],
    )


def data_cautions(manifest: Manifest) -> list[str]:
    """One sentence for each reason to doubt a data set's classes, or that its splits are apart."""
    found = name_cautions(manifest.classes)
    if count := len(manifest.duplicates.conflicting):
        found.append(f"{_copies_of_another_class(count)}, so that not all labels can be right.")
    across = manifest.resemblances.across
    if across:
        pairs = "1 pair of images looks" if across == 1 else f"{across:,} pairs of images look"
        found.append(
            f"{pairs} alike across splits, so that a split may know another's images; "
            "data.near_duplicates = move puts each into one split."
        )
    return found


def name_cautions(classes: Iterable[str]) -> list[str]:
    """One sentence for each set of class names that differ only by case or by the Unicode form of letters."""
    by_form: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        by_form[unicodedata.normalize("NFKC", name).casefold()].append(name)
    return [
        f"Classes {' and '.join(_told(name, names) for name in names)} differ only by "
        f"{_difference(names)}: are they one?"
        for names in by_form.values()
        if len(names) > 1
    ]


def _difference(names: list[str]) -> str:
    if len({name.casefold() for name in names}) == 1:
        return "case"
    if len({unicodedata.normalize("NFKC", name) for name in names}) == 1:
        return "the Unicode form of their letters"
    return "case and the Unicode form of their letters"


def _told(name: str, names: list[str]) -> str:
    """A name; with the codes of its letters where it would look like another one."""
    looks = [unicodedata.normalize("NFC", other) for other in names]
    if looks.count(unicodedata.normalize("NFC", name)) == 1:
        return name
    return f"{name} ({name.encode('ascii', 'backslashreplace').decode()})"


def _copies_of_another_class(count: int) -> str:
    return f"{'1 image has' if count == 1 else f'{count:,} images have'} copies with another class"


def _on_resemblances(resemblances: Resemblances) -> list[str]:
    if not resemblances.searched:
        return []
    if not resemblances.pairs:
        return ["No two other images look alike."]
    alike = (
        "1 pair of other images looks" if resemblances.pairs == 1 else f"{resemblances.pairs:,} pairs look"
    )
    told = (
        f"{'' if resemblances.is_complete else 'More than '}{alike} alike without being copies, "
        f"{resemblances.across:,} across splits, {resemblances.conflicting:,} across classes"
    )
    return [f"{told}{_first(resemblances.pairs)}."]


def _on_duplicates(duplicates: Duplicates) -> list[str]:
    if not duplicates.groups:
        return ["No two images are the same."]
    groups = f"{duplicates.groups} group{'' if duplicates.groups == 1 else 's'}"
    remarks = [
        f"{duplicates.images} images are exact copies of one another, in {groups}. Copies lie in one split, "
        "so that no split knows another's images."
    ]
    if count := len(duplicates.conflicting):
        remarks.append(
            f"{_copies_of_another_class(count)}, so that not all labels can be right{_first(count)}."
        )
    return remarks


def _on_omissions(manifest: Manifest) -> str:
    count = len(manifest.skipped)
    if not count:
        return "Every image of the source is in the records."
    return f"{'1 image was' if count == 1 else f'{count} images were'} left out{_first(count)}."


def _first(count: int) -> str:
    return f"; the first {NAMES_SHOWN} are listed" if count > NAMES_SHOWN else ""

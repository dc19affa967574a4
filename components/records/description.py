"""Records in words: what the card of `prepare` and the report both say of a data set."""

from dataclasses import dataclass
from pathlib import Path

from optduel.components.records.manifest import SPLITS, Duplicates, Manifest, Records

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
        remarks: what is worth knowing of duplicates and omissions, a sentence each.
        conflicting: the first images with copies of another class.
        skipped: image and reason of the first ones left out.
    """

    facts: list[tuple[str, str]]
    splits: list[str]
    counts: list[tuple[str, list[int], int]]
    totals: list[int]
    largest: int
    remarks: list[str]
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
        remarks=[*_on_duplicates(manifest.duplicates), _on_omissions(manifest)],
        conflicting=list(manifest.duplicates.conflicting[:NAMES_SHOWN]),
        skipped=[(entry.image, entry.reason) for entry in manifest.skipped[:NAMES_SHOWN]],
    )


def _on_duplicates(duplicates: Duplicates) -> list[str]:
    if not duplicates.groups:
        return ["No two images are the same."]
    groups = f"{duplicates.groups} group{'' if duplicates.groups == 1 else 's'}"
    remarks = [
        f"{duplicates.images} images are exact copies of one another, in {groups}. Copies lie in one split, "
        "so that no split knows another's images."
    ]
    if count := len(duplicates.conflicting):
        have = "1 image has copies" if count == 1 else f"{count} images have copies"
        remarks.append(f"{have} with another class, so that not all labels can be right{_first(count)}.")
    return remarks


def _on_omissions(manifest: Manifest) -> str:
    count = len(manifest.skipped)
    if not count:
        return "Every image of the source is in the records."
    return f"{'1 image was' if count == 1 else f'{count} images were'} left out{_first(count)}."


def _first(count: int) -> str:
    return f"; the first {NAMES_SHOWN} are listed" if count > NAMES_SHOWN else ""

"""Looks at a data set before anything is made of it: what it holds, what would be left out, what is odd."""

import contextlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from optduel.components.core import DataError, usable_cores, usable_memory
from optduel.components.prepare.card import SHEET_CLASSES, SHEET_SAMPLES, render_card
from optduel.components.prepare.decoders import Decoders, useful_processes
from optduel.components.prepare.identity import (
    compose_manifest,
    count_in_words,
    describe_originals,
    describe_pairs,
    fingerprint,
)
from optduel.components.prepare.image import decoding
from optduel.components.prepare.prepare import open_source
from optduel.components.prepare.reading import Images
from optduel.components.prepare.room import Room
from optduel.components.prepare.shards import count_shards, plan_shards
from optduel.components.prepare.split import Division, divide
from optduel.components.prepare.survey import Survey, Traits, decode_all, read_contents, remarks
from optduel.components.prepare.writing import alike_images, is_searched
from optduel.components.records import Manifest, Records, Shard, data_cautions, describe
from optduel.components.settings import Data
from optduel.components.storage import is_remote

_THUMBNAIL = 64


@dataclass(frozen=True)
class Look:
    """What a data set holds.

    Attributes:
        manifest: of the records that would be made, without shards' content; of all images in one split where
            they cannot be divided.
        sentence: the answer in one line.
        refusal: why no records would be made, or None.
        facts: formats and sizes, name and value.
        cautions: reasons to doubt labels or splits.
        page: the card, as HTML.
    """

    manifest: Manifest
    sentence: str
    refusal: str | None
    facts: list[tuple[str, str]]
    cautions: list[str]
    page: str


def look_at(data: Data, folder: Path) -> Look:
    """Reads and decodes every image, and writes nothing.

    Args:
        folder: receives TensorFlow Datasets' own files.

    Raises:
        ExperimentError: the source names something that does not exist.
        DataError: it is no data set of two classes or more.
        StorageError: it cannot be read.
    """
    source = open_source(data, folder)
    is_near = not any(map(is_remote, data.source.places.values()))
    threads = usable_cores() if is_near else 16
    room = Room(usable_memory() // 2)
    processes = useful_processes(len(source.examples))
    with (
        warnings.catch_warnings(),
        Decoders(data, room, processes) as decoders,
        contextlib.closing(Images(source, is_near, reserved=0)) as images,
    ):
        warnings.filterwarnings("ignore", module=r"PIL\.")
        survey = read_contents(images, threads)
        traits = Traits(len(source.examples))
        survey = decode_all(images, survey, traits, threads, decoders)
        pairs, is_complete = alike_images(survey, data, traits, threads)
        refusal = None if data.skip_corrupt else _refusal(survey)
        try:
            division = divide(
                survey.contents, source.classes, data.split, pairs if data.near_duplicates == "move" else []
            )
        except DataError as error:
            division, refusal = Division({"train": list(survey.contents)}, [], {}, {}, (), 0.0), str(error)
        resemblances = describe_pairs(source, division, pairs, is_searched(survey, data), is_complete)
        if data.near_duplicates == "refuse" and resemblances.across:
            refusal = refusal or f"{resemblances.across} pair(s) of images look alike across splits"
        manifest = compose_manifest(
            source,
            survey,
            data,
            fingerprint(source, survey, data),
            division,
            _no_shards(division, data),
            resemblances,
            describe_originals(survey, traits, division),
            remarks(source, survey, traits),
        )
        samples = _samples(images, survey, len(source.classes), room)
    facts = _facts(survey, traits)
    description = describe(Records(location="", manifest=manifest))
    description = replace(description, facts=[description.facts[0], description.facts[1], *facts])
    if refusal:
        description = replace(
            description, remarks=[f"Cannot be used as it is: {refusal}.", *description.remarks]
        )
    cautions = data_cautions(manifest)
    page = render_card(f"Images of {manifest.name}", description, cautions, samples, "as they are, upright")
    return Look(manifest, _sentence(manifest, refusal), refusal, facts, cautions, page)


def _refusal(survey: Survey) -> str | None:
    if not survey.problems:
        return None
    first = survey.problems[0]
    return f"{len(survey.problems)} file(s) cannot be used, {first.image}: {first.reason}"


def _no_shards(division: Division, data: Data) -> dict[str, Shard]:
    return {
        plan.file: Shard(file=plan.file, records=len(plan.positions), bytes=0, crc32c="0" * 8)
        for name, positions in division.splits.items()
        for plan in plan_shards(name, positions, count_shards(len(positions), data))
    }


def _facts(survey: Survey, traits: Traits) -> list[tuple[str, str]]:
    formats = Counter(survey.formats[position] for position in survey.contents)
    sizes = traits.sizes[list(survey.contents)]
    if not len(sizes):
        return []
    width, height = np.median(sizes, axis=0).astype(int)
    low, high = sizes[np.argmin(sizes.prod(axis=1))], sizes[np.argmax(sizes.prod(axis=1))]
    return [
        ("formats", ", ".join(f"{name} {count:,}" for name, count in formats.most_common())),
        ("width x height", f"median {width} x {height}, from {low[0]} x {low[1]} to {high[0]} x {high[1]}"),
    ]


def _samples(images: Images, survey: Survey, classes: int, room: Room) -> list[list[np.ndarray]]:
    """The first images of each of the first classes, within a square, uint8 [height, width, channels]."""
    chosen: list[list[int]] = [[] for _ in range(min(classes, SHEET_CLASSES))]
    for position, content in survey.contents.items():
        if content.label < len(chosen) and len(chosen[content.label]) < SHEET_SAMPLES:
            chosen[content.label].append(position)
    return [[_thumbnail(images, survey, position, room) for position in positions] for positions in chosen]


def _thumbnail(images: Images, survey: Survey, position: int, room: Room) -> np.ndarray:
    encoded = images.read_again(position, survey.contents[position].digest)
    with decoding(encoded, room, (_THUMBNAIL, _THUMBNAIL)) as decoded:
        small = decoded.image.copy() if max(decoded.image.size) <= _THUMBNAIL else decoded.image
        if small is decoded.image:
            small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
        return np.asarray(small.convert("RGB"))


def _sentence(manifest: Manifest, refusal: str | None) -> str:
    duplicates, alike = manifest.duplicates, manifest.resemblances
    left_out = len(manifest.skipped)
    parts = [count_in_words(manifest)]
    parts.append(f"{left_out:,} would be left out" if left_out else "none would be left out")
    parts += [f"{duplicates.images:,} are copies of one another"] if duplicates.images else []
    parts += [f"{alike.pairs:,} pairs look alike, {alike.across:,} across splits"] if alike.pairs else []
    lines: Sequence[str] = (refusal or "").splitlines()
    return "; ".join(parts) + (f"; cannot be used as it is: {lines[0]}" if lines else "")

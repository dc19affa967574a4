"""Writes a data set: decodes and checks all images, divides them, and makes the shards that are not there."""

import resource
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from optduel.components.core import DataError
from optduel.components.prepare.decoder import LEAST_PIXELS
from optduel.components.prepare.decoders import Decoders
from optduel.components.prepare.disk import writing_threads
from optduel.components.prepare.identity import (
    compose_manifest,
    describe_originals,
    describe_pairs,
    known_contents,
)
from optduel.components.prepare.reading import Images
from optduel.components.prepare.resemblance import IMAGES_LIMIT, alike_pairs
from optduel.components.prepare.room import Room
from optduel.components.prepare.shards import (
    ShardPlan,
    count_shards,
    finished_shards,
    plan_shards,
    record_bytes,
    shards_of,
)
from optduel.components.prepare.split import Division, divide
from optduel.components.prepare.survey import (
    PROBLEMS_SHOWN,
    Survey,
    Traits,
    decode_all,
    refuse,
    refuse_fewer_bits,
    remarks,
)
from optduel.components.records import SPLITS, Manifest, Records, Resemblances, Shard, remove_stale_parts
from optduel.components.settings import Data
from optduel.components.storage import is_remote, local_path

_OPEN_FILES_SHARE = 2
"""Each shard that is held back is an open file; they may be this part of those that a process may have."""


def write_records(
    images: Images, survey: Survey, data: Data, folder: str, identity: str, threads: int, decoders: Decoders
) -> Manifest:
    """Writes all shards of a data set; none appears before every image was decoded.

    Raises:
        DataError: the images cannot be used; lists every problem.
        StorageError: the folder cannot be written.
    """
    source = images.source
    traits = Traits(len(source.examples))
    if not is_remote(folder):
        remove_stale_parts(local_path(folder))
    # What is known to be refused is not written; what is to be moved has to be known before.
    is_checked = (
        not _can_hold(survey, data, folder)
        or data.near_duplicates == "move"
        or bool(survey.problems and not data.skip_corrupt)
    )
    if is_checked:
        survey = decode_all(images, survey, traits, threads, decoders)
        _judge(images, survey, data, traits)
    while True:
        pairs, is_complete = alike_images(survey, data, traits, threads) if is_checked else ([], True)
        together = pairs if data.near_duplicates == "move" else []
        division = divide(survey.contents, source.classes, data.split, together)
        plans = _plans(division, data)
        there = finished_shards(folder, plans) if is_checked else {}
        missing = [plan for plan in plans if plan.file not in there]
        with shards_of(
            images,
            survey.contents,
            folder,
            missing,
            _threads(folder, missing, data, threads, decoders.room),
            decoders,
            traits,
            is_checked,
        ) as written:
            survey = survey.without(source, written.reasons)
            _judge(images, survey, data, traits)
            if not written.reasons:
                if not is_checked:
                    pairs, is_complete = alike_images(survey, data, traits, threads)
                resemblances = describe_pairs(source, division, pairs, is_searched(survey, data), is_complete)
                _refuse_leaks(source.description, data, resemblances)
                shards = {**there, **{shard.file: shard for shard in written.shards}}
                return compose_manifest(
                    source,
                    survey,
                    data,
                    identity,
                    division,
                    shards,
                    resemblances,
                    describe_originals(survey, traits, division),
                    remarks(source, survey, traits),
                )
        # Images that could not be decoded are left out, and the others divided anew.


def mend_records(
    images: Images,
    survey: Survey,
    data: Data,
    known: Records,
    intact: Mapping[str, Shard],
    threads: int,
    decoders: Decoders,
) -> Manifest:
    """Writes the shards again that are missing or damaged beside a sound manifest.

    Raises:
        StorageError: the folder cannot be written.
    """
    manifest = known.manifest
    contents = known_contents(manifest, images.source, survey)
    plans = _plans(divide(contents, images.source.classes, data.split), data)
    missing = [plan for plan in plans if plan.file not in intact]
    traits = Traits(len(images.source.examples))
    used = _threads(known.location, missing, data, threads, decoders.room)
    with shards_of(images, contents, known.location, missing, used, decoders, traits, True) as written:
        shards = {**intact, **{shard.file: shard for shard in written.shards}}
    splits = {
        name: split.model_copy(update={"shards": tuple(shards[shard.file] for shard in split.shards)})
        for name, split in manifest.splits.items()
    }
    return manifest.model_copy(update={"splits": splits})


def _judge(images: Images, survey: Survey, data: Data, traits: Traits) -> None:
    if not data.skip_corrupt:
        refuse(images.source, survey.problems)
    refuse_fewer_bits(images.source, survey, traits)


def _plans(division: Division, data: Data) -> list[ShardPlan]:
    return [
        plan
        for split, positions in division.splits.items()
        for plan in plan_shards(split, positions, count_shards(len(positions), data))
    ]


def _threads(folder: str, missing: Sequence[ShardPlan], data: Data, threads: int, room: Room) -> int:
    largest = max((len(plan.positions) for plan in missing), default=0) * record_bytes(data)
    return writing_threads(folder, largest, record_bytes(data), room.total, threads)


def _can_hold(survey: Survey, data: Data, folder: str) -> bool:
    """Whether all shards can wait for the last image to be decoded: for a store in temporary files."""
    count = len(survey.contents)
    shards = count_shards(count, data) + (len(SPLITS) - 1) * data.shards
    if shards > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _OPEN_FILES_SHARE:
        return False
    if not is_remote(folder):
        return True
    return count * record_bytes(data) < shutil.disk_usage(Path(tempfile.gettempdir())).free // 2


def is_searched(survey: Survey, data: Data) -> bool:
    """Whether images are compared: the records are large enough, and not too many."""
    return min(data.image_size) >= LEAST_PIXELS and len(survey.contents) <= IMAGES_LIMIT


def alike_images(
    survey: Survey, data: Data, traits: Traits, threads: int
) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of positions whose images look alike and are no copies, and whether these are all.

    Raises:
        DataError: they are to be moved, and are too many.
    """
    if not is_searched(survey, data):
        return [], True
    hashes = traits.hashes
    first = {content.digest: position for position, content in survey.contents.items()}
    positions = np.array([position for position in first.values() if traits.have_hash[position]], np.int64)
    if not len(positions):
        return [], True
    pairs, is_complete = alike_pairs(hashes[positions], threads)
    if not is_complete and data.near_duplicates != "tell":
        raise DataError(
            f"data.near_duplicates = {data.near_duplicates}: more than {len(pairs):,} pairs of images look "
            "alike, like frames of films; name groups in a table of labels, and set near_duplicates = tell"
        )
    return [(int(one), int(other)) for one, other in positions[pairs]], is_complete


def _refuse_leaks(where: str, data: Data, resemblances: Resemblances) -> None:
    if data.near_duplicates != "refuse" or not resemblances.across:
        return
    across = [pair for pair in resemblances.shown if pair.splits[0] != pair.splits[1]]
    lines = [
        f"{pair.images[0]} ({pair.splits[0]}) and {pair.images[1]} ({pair.splits[1]})"
        for pair in across[:PROBLEMS_SHOWN]
    ]
    if resemblances.across > PROBLEMS_SHOWN:
        lines.append(f"... and {resemblances.across - PROBLEMS_SHOWN:,} more")
    remedy = "remove one of each, or put them into one split with data.near_duplicates = move"
    raise DataError(
        "\n".join(
            [f"{where}: {resemblances.across:,} pair(s) of images look alike across splits; {remedy}", *lines]
        )
    )

"""Makes records of a source of images: the one library call of this stage.

A data set is `<root>/datasets/<name>/<fingerprint>/`. What is there already and whole is used as it is.
Writers of one data set write the same bytes: several at once, or one after a killed one, end in one data set.
"""

import contextlib
import time
import warnings
from pathlib import Path

from optduel.components.core import ConflictError, say, seconds_in_words, usable_cores, usable_memory
from optduel.components.prepare.card import records_card
from optduel.components.prepare.decoders import Decoders, useful_processes
from optduel.components.prepare.disk import check_disk
from optduel.components.prepare.identity import count_in_words, difference, fingerprint, list_names
from optduel.components.prepare.reading import Images
from optduel.components.prepare.room import Room
from optduel.components.prepare.shards import intact_shards, known_manifest, least_record_bytes
from optduel.components.prepare.sources import SOURCES, Source
from optduel.components.prepare.survey import read_contents, tell_omissions
from optduel.components.prepare.writing import mend_records, write_records
from optduel.components.records import (
    MANIFEST_FILE,
    Manifest,
    Records,
    RecordsOfSeeds,
    data_cautions,
    encode_manifest,
    load_manifest,
    staging_folder,
)
from optduel.components.settings import Data, canonical_json, decode
from optduel.components.storage import Location, is_remote, join, local_path, publish, stat

_MOST_THREADS = 16
"""Each holds an encoded image, or 8 MiB of images and records on their way to a process and back; and up to
32 MiB of a shard on its way to a store."""


def prepare_records(data: Data, root: str) -> Records:
    """Makes, or finds, the records of the images that `data` describes.

    Args:
        data: the experiment's data section.
        root: the folder for data sets, a path or a URI; a local one gets TensorFlow Datasets' own files, too.

    Raises:
        ExperimentError: the source names something that does not exist.
        DataError: the images cannot be used; lists every problem.
        StorageError: the root cannot be written.
    """
    place: Location = root if is_remote(root) else local_path(root).absolute()
    source = open_source(data, place if isinstance(place, Path) else staging_folder())
    # Whoever talks to a store waits most of the time.
    waits = is_remote(place) or any(map(is_remote, data.source.places.values()))
    threads = _MOST_THREADS if waits else min(usable_cores() + 1, _MOST_THREADS)  # one waits for the disk
    return prepare_source(source, data, place, threads, useful_processes(len(source.examples)))


def open_source(data: Data, folder: Path) -> Source:
    """The source that `data` names. Raises as `prepare_records` does.

    Args:
        folder: receives TensorFlow Datasets' own files.
    """
    return SOURCES[data.source.kind](data.source, folder)


def prepare_source(source: Source, data: Data, root: Location, threads: int, processes: int = 0) -> Records:
    """Makes, or finds, the records of a source; their bytes do not depend on threads and processes.

    Args:
        threads: that read and write.
        processes: that decode; with none, images are decoded in the threads.
    """
    started = time.monotonic()
    # Half of it: what is decoded, and beside it what was read and what is written.
    room = Room(usable_memory() // 2)
    least = len(source.examples) * least_record_bytes(data)
    is_near = not any(map(is_remote, data.source.places.values()))
    with (
        warnings.catch_warnings(),
        # Processes start while images are read, also where it then shows that the records are there already.
        Decoders(data, room, processes) as decoders,
        contextlib.closing(Images(source, is_near, reserved=least)) as images,
    ):
        # Pillow warns of oddities in images that it then decodes completely.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        survey = read_contents(images, threads)
        identity = fingerprint(source, survey, data)
        folder = join(str(root), "datasets", source.name, identity)
        place = join(folder, MANIFEST_FILE)
        found = stat(place)
        known = known_manifest(place) if found else None
        if known and (field := difference(known, source, survey, data, identity)):
            say(f"prepare: writing the data set again: {place}: has another {field} than the source")
            known = None
        intact = intact_shards(Records(location=folder, manifest=known)) if known else {}
        if known and len(intact) == sum(len(split.shards) for split in known.splits.values()):
            say(f"prepare: {count_in_words(known)} are there already: {folder}")
            _tell(known)
            return Records(location=folder, manifest=known)
        check_disk(folder, len(survey.contents) * least_record_bytes(data))
        if known and data.near_duplicates != "move":
            there = Records(location=folder, manifest=known)
            manifest = mend_records(images, survey, data, there, intact, threads, decoders)
        else:
            manifest = write_records(images, survey, data, folder, identity, threads, decoders)
        manifest = _publish(manifest, place, found.version if found else None)
    say(f"prepare: {count_in_words(manifest)} in {seconds_in_words(time.monotonic() - started)}: {folder}")
    _tell(manifest)
    return Records(location=folder, manifest=manifest)


def _tell(manifest: Manifest) -> None:
    say(f"prepare: classes: {list_names(manifest.classes)}")
    for caution in data_cautions(manifest):
        say(f"prepare: caution: {caution}")
    for remark in manifest.remarks:
        say(f"prepare: {remark}")
    tell_omissions(manifest.skipped)


def _publish(manifest: Manifest, place: str, version: str | None) -> Manifest:
    """Publishes the manifest, or finds that another writer was first with the same one.

    Args:
        version: of the manifest that is to be replaced, if there is one.
    """
    content = encode_manifest(manifest)
    try:
        publish(place, content, if_absent=version is None, if_version=version)
    except ConflictError:
        found = load_manifest(place)
        if found.splits != manifest.splits:
            remedy = "use one version of this package and its libraries, then run prepare again"
            raise ConflictError(
                f"{place}: another writer made other bytes of the same images; {remedy}"
            ) from None
        return found
    return manifest


def prepare_documents(
    data: str, seeds: str, root: str, records: Path, card: Path, metrics: Path
) -> dict[str, float]:
    """Prepares records and writes what later stages and people read of them.

    Args:
        data: canonical JSON of the experiment's data section.
        seeds: a JSON list: of each a split of its own is prepared; of none the one of the data section. Card
            and counts are those of the first.
        root: the folder for data sets, a path or a URI.
        records: where the `Records` document goes, as canonical JSON.
        card: where the card goes, as HTML.
        metrics: where the counts go, as JSON; a local run of KFP caches no stage that lacks one of its files.

    Returns:
        The counts.

    Raises:
        ExperimentError: the section breaks a rule, or names something that does not exist.
        DataError: the images cannot be used.
        StorageError: a place cannot be written.
    """
    section = decode(Data, data, "data")
    wanted = decode(list[int], seeds, "seeds")
    if of_seeds := [(seed, prepare_records(section.with_split_of(seed), root)) for seed in wanted]:
        document: Records | RecordsOfSeeds = RecordsOfSeeds(of_seeds=tuple(of_seeds))
        (_, prepared), *_ = of_seeds
    else:
        document = prepared = prepare_records(section, root)
    counts = _counts(prepared)
    publish(records, document.canonical_json().encode())
    publish(card, records_card(prepared).encode())
    publish(metrics, canonical_json(counts).encode())
    return counts


def _counts(records: Records) -> dict[str, float]:
    manifest = records.manifest
    return {
        "classes": float(len(manifest.classes)),
        "bytes": float(sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)),
        "duplicates": float(manifest.duplicates.images),
        "left_out": float(len(manifest.skipped)),
        **{f"{name}_images": float(split.records) for name, split in manifest.splits.items()},
    }

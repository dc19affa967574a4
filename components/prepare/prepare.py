"""Makes records of a source of images: the one library call of this stage.

A data set is `<root>/datasets/<name>/<fingerprint>/`. What is there already and whole is used as it is.
"""

import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from components.core.errors import DataError, ExperimentError
from components.core.experiment import Data, DigitsSource, FolderSource, TfdsSource
from components.core.narration import say, seconds_in_words
from components.core.records import MANIFEST_FILE, Manifest, Records, Shard, load_manifest, verify_shards
from components.core.storage import local_path, publish
from components.prepare.digits_source import Digits
from components.prepare.folder_source import Folder
from components.prepare.manifest import compose_manifest, count_in_words, fingerprint
from components.prepare.shards import plan_shards, remove_stale_parts, write_shards
from components.prepare.source import Source
from components.prepare.split import divide
from components.prepare.survey import Survey, decode_all, read_contents, refuse
from components.prepare.tfds_source import Tfds

_MOST_THREADS = 16


def prepare_records(data: Data, root: str) -> Records:
    """Makes, or finds, the records of the images that `data` describes.

    Args:
        data: the experiment's data section.
        root: the directory that holds data sets and TensorFlow Datasets' own files.

    Raises:
        ExperimentError: the source names something that does not exist.
        DataError: the images cannot be used; lists every problem.
        StorageError: the root cannot be written.
    """
    place = local_path(root).expanduser().absolute()
    return prepare_source(
        open_source(data, place), data, place, threads=min(os.cpu_count() or 1, _MOST_THREADS)
    )


def open_source(data: Data, root: Path) -> Source:
    """The source that `data` names. Raises as `prepare_records` does."""
    match data.source:
        case DigitsSource():
            return Digits()
        case FolderSource():
            return Folder(data.source)
        case TfdsSource():
            return Tfds(data.source, root)


def prepare_source(source: Source, data: Data, root: Path, threads: int) -> Records:
    """Makes, or finds, the records of a source; their bytes do not depend on the number of threads."""
    started = time.monotonic()
    with warnings.catch_warnings():
        # Pillow warns of oddities, such as broken EXIF data, in images that it then decodes completely.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        survey = read_contents(source, threads)
        folder = root / "datasets" / source.name / fingerprint(source, survey, data)
        known = _known_manifest(folder / MANIFEST_FILE)
        intact = _intact_shards(folder, known) if known is not None else {}
        if known is not None and len(intact) == sum(len(split.shards) for split in known.splits.values()):
            say(f"prepare: {count_in_words(known)} are there already: {folder}")
            return Records(location=str(folder), manifest=known)
        manifest = _write(source, survey, data, folder, intact, threads)
    say(f"prepare: {count_in_words(manifest)} in {seconds_in_words(time.monotonic() - started)}: {folder}")
    return Records(location=str(folder), manifest=manifest)


def _write(
    source: Source, survey: Survey, data: Data, folder: Path, intact: Mapping[str, Shard], threads: int
) -> Manifest:
    """Checks all images, divides them, and writes what is not intact, the manifest last."""
    survey = decode_all(source, survey, threads)
    if not data.skip_corrupt:
        refuse(source, survey.problems)
    division = divide(survey.contents, source.classes, data.split)
    plans = [
        plan
        for split, positions in division.splits.items()
        for plan in plan_shards(split, positions, data.shards)
    ]
    remove_stale_parts(folder)
    missing = [plan for plan in plans if plan.file not in intact]
    written = {
        shard.file: shard for shard in write_shards(source, survey.contents, data, folder, missing, threads)
    }
    manifest = compose_manifest(source, survey, data, folder.name, division, {**intact, **written})
    publish(folder / MANIFEST_FILE, manifest.canonical_json().encode())
    return manifest


def _known_manifest(path: Path) -> Manifest | None:
    if not path.exists():
        return None
    try:
        return load_manifest(path)
    except (DataError, ExperimentError) as error:
        say(f"prepare: writing the data set again: {str(error).splitlines()[0]}")
        return None


def _intact_shards(folder: Path, manifest: Manifest) -> dict[str, Shard]:
    """The shards that are as the manifest says, by file name."""
    records = Records(location=str(folder), manifest=manifest)
    intact = {}
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        try:
            verify_shards(records, [shard])
            intact[shard.file] = shard
        except DataError as error:
            say(f"prepare: writing again: {str(error).splitlines()[-1]}")
    return intact

"""The command `optduel lineage`: walks a model back to its images, and says whether they are there."""

import argparse
import hashlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from optduel.components.champions import current, model_folder
from optduel.components.core import DataError, ExperimentError
from optduel.components.records import MANIFEST_FILE, Shard, load_manifest
from optduel.components.results import LINEAGE_NAME, Lineage, read_lineage, run_folder
from optduel.components.storage import is_remote, join, kind_of, list_entries, read, resolved, stat
from optduel.pipeline.cli.arguments import print_json

_MOST_STEPS_UP = 8
"""From a model's file to the folder of its run: KFP's artifacts lie some folders below it."""

_MOST_ANCESTORS = 1000


class Finding(NamedTuple):
    """One thing that a lineage names.

    Attributes:
        state: "there" as it was, "gone", or "changed".
        what: in words, such as "records".
        place: a path, a URI, or a name.
    """

    state: Literal["there", "gone", "changed"]
    what: str
    place: str


def show_lineage(options: argparse.Namespace) -> int:
    """Runs the command; returns 1 where something is gone or was changed."""
    root = join(options.root) if is_remote(options.root) else str(resolved(options.root))
    folder = _folder(options.model, root)
    generations = [(lineage, list(_findings(lineage))) for lineage in _walk(folder)]
    if options.json:
        print_json(
            [
                {
                    "lineage": lineage.model_dump(mode="json"),
                    "findings": [finding._asdict() for finding in findings],
                }
                for lineage, findings in generations
            ]
        )
    else:
        for lineage, findings in generations:
            print("\n".join(_lines(lineage, findings)))
    return int(any(finding.state != "there" for _, findings in generations for finding in findings))


def _lines(lineage: Lineage, findings: list[Finding]) -> Iterator[str]:
    images = ", ".join(f"{count} {split}" for split, count in lineage.images.items())
    yield f"run {lineage.run} of {lineage.experiment.name} {lineage.fingerprint[:12]}, {lineage.time}"
    yield f"  images: {lineage.source}: {images}; data {lineage.data_fingerprint[:12]}"
    yield f"  code {lineage.code_version}, image {lineage.image or 'none'}"
    for finding in findings:
        yield f"  {finding.state:<8} {finding.what}: {finding.place}"


def _folder(model: str, root: str) -> str:
    """The folder that holds the lineage of what was named: a champion, a run, a model's file or folder."""
    if "/" not in model:
        held = current(root, model)
        if held is not None:
            return model_folder(root, model, held.champion.candidate.model_sha256)
        if stat(join(run_folder(root, model), LINEAGE_NAME)):
            return run_folder(root, model)
    place = model.rstrip("/") if is_remote(model) else str(resolved(model))
    for _ in range(_MOST_STEPS_UP):
        if stat(join(place, LINEAGE_NAME)):
            return place
        place, separator, _name = place.rpartition("/")
        if not separator or place.endswith(("/", ":")) or not place:
            break
    raise ExperimentError(
        f"{model}: no {LINEAGE_NAME} beside it or above it, and neither a champion nor a run below {root}; "
        "name one of these"
    )


def _walk(folder: str) -> Iterator[Lineage]:
    """A lineage, those of its parents, and so forth; each once."""
    waiting, seen = [folder], set[str]()
    while waiting and len(seen) < _MOST_ANCESTORS:
        lineage = read_lineage(waiting.pop(0))
        if lineage.run not in seen:
            seen.add(lineage.run)
            yield lineage
            waiting += [
                parent.folder for parent in lineage.parents if stat(join(parent.folder, LINEAGE_NAME))
            ]


def _findings(lineage: Lineage) -> Iterator[Finding]:
    for name, place in lineage.experiment.data.source.places.items():
        there = bool(list_entries(place)) if is_remote(place) else kind_of(place) is not None
        yield Finding("there" if there else "gone", f"images, data.source.{name}", place)
    yield Finding(_records_state(lineage), "records", lineage.records)
    for model in lineage.models:
        what = f"model of {model.arm}, seed {model.seed}"
        yield Finding(_model_state(model.place, model.model_sha256), what, model.place)
    for parent in lineage.parents:
        place = join(parent.folder, "model.keras")
        what = f"champion {parent.champion} at change {parent.number}, of run {parent.run}"
        yield Finding(_model_state(place, parent.model_sha256), what, place)


def _model_state(place: str, sha256: str) -> Literal["there", "gone", "changed"]:
    if stat(place) is None:
        return "gone"
    return "there" if hashlib.sha256(read(place)).hexdigest() == sha256 else "changed"


def _records_state(lineage: Lineage) -> Literal["there", "gone", "changed"]:
    place = join(lineage.records, MANIFEST_FILE)
    if stat(place) is None:
        return "gone"
    try:
        manifest = load_manifest(place)
    except DataError:
        return "changed"
    if manifest.fingerprint != lineage.data_fingerprint:
        return "changed"
    sizes = {entry.uri.rpartition("/")[2]: entry.bytes for entry in list_entries(lineage.records)}
    shards: list[Shard] = [shard for split in manifest.splits.values() for shard in split.shards]
    if any(shard.file not in sizes for shard in shards):
        return "gone"
    return "there" if all(sizes[shard.file] == shard.bytes for shard in shards) else "changed"

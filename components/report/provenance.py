"""Where the numbers come from: the records, the machines and the packages, trial by trial."""

from collections.abc import Sequence
from dataclasses import dataclass

from optduel.components.core import seconds_in_words
from optduel.components.records import SPLITS, Manifest
from optduel.components.results import Environment, Trial

SKIPPED_LISTED = 20
"""Images left out that the page names; the manifest has all."""


@dataclass(frozen=True)
class RecordsCard:
    """The data set in words.

    Attributes:
        splits: names, in the order of SPLITS.
        counts: name of each class, its images in each split, and in total.
        totals: images of each split.
        largest: images of the largest class.
        skipped: image and reason of the first ones left out.
        remarks: what is worth knowing of duplicates and omissions, a sentence each.
    """

    facts: list[tuple[str, str]]
    splits: list[str]
    counts: list[tuple[str, list[int], int]]
    totals: list[int]
    largest: int
    skipped: list[tuple[str, str]]
    remarks: list[str]


def records_card(manifest: Manifest, location: str) -> RecordsCard:
    """Describes the records."""
    splits = [name for name in SPLITS if name in manifest.splits]
    per_split = [manifest.splits[name].class_counts for name in splits]
    counts = [
        (name, [column[index] for column in per_split], sum(column[index] for column in per_split))
        for index, name in enumerate(manifest.classes)
    ]
    height, width, channels = manifest.image_shape
    duplicates = manifest.duplicates
    remarks = []
    if duplicates.groups:
        remarks.append(
            f"{duplicates.images} images are exact copies of each other, in {duplicates.groups} groups; each "
            "of them lies in one split, so that no split knows another's images."
        )
    if duplicates.conflicting:
        remarks.append(
            f"{len(duplicates.conflicting)} images have copies with another class, beginning with "
            f"{', '.join(duplicates.conflicting[:3])}: their labels cannot all be right."
        )
    if len(manifest.skipped) > SKIPPED_LISTED:
        remarks.append(
            f"{len(manifest.skipped)} images were left out; the first {SKIPPED_LISTED} are listed."
        )
    elif manifest.skipped:
        remarks.append(f"{len(manifest.skipped)} images were left out.")
    return RecordsCard(
        facts=[
            ("source", manifest.source),
            ("images", f"{height} x {width} pixels, {'grey' if channels == 1 else 'red-green-blue'}"),
            ("encoding", manifest.encoding),
            ("classes", f"{len(manifest.classes):,}"),
            ("place", location),
            ("data fingerprint", manifest.fingerprint),
        ],
        splits=splits,
        counts=counts,
        totals=[manifest.splits[name].records for name in splits],
        largest=max(total for _, _, total in counts),
        skipped=[(entry.image, entry.reason) for entry in manifest.skipped[:SKIPPED_LISTED]],
        remarks=remarks,
    )


def environments(trials: Sequence[Trial]) -> list[tuple[str, Environment]]:
    """Each environment that trials ran in, with the trials that did."""
    found: dict[str, tuple[Environment, list[str]]] = {}
    for trial in trials:
        environment = trial.training.environment
        _, names = found.setdefault(environment.canonical_json(), (environment, []))
        names.append(f"{trial.training.arm} seed {trial.training.seed}")
    if len(found) == 1:
        return [("all trials", environment) for environment, _ in found.values()]
    return [(", ".join(names), environment) for environment, names in found.values()]


def trial_times(trial: Trial) -> tuple[str, str]:
    """When training started and how long it took, for people."""
    started = trial.training.started.replace("T", " ").replace("+00:00", " UTC")
    return started, seconds_in_words(trial.training.seconds)

"""The decide stage's one call: from today's records and the champion to what the run has to do."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from optduel.components.champions import (
    Champion,
    ImageList,
    RetrainingDecision,
    RetrainingRun,
    current,
    images_file,
    read_images,
    retraining_runs,
    tell_story,
    write_decision,
    write_images,
    write_retraining_run,
)
from optduel.components.core import DataError, ExperimentError, say
from optduel.components.decide.changes import Changes, compare_images
from optduel.components.decide.inventory import take_inventory
from optduel.components.decide.page import changes_page
from optduel.components.records import Records, load_records
from optduel.components.results import (
    Notice,
    code_version,
    now,
    run_folder,
    sum_costs,
    task_costs,
    write_notice,
)
from optduel.components.settings import Arm, Experiment, Retraining, canonical_json, decode
from optduel.components.storage import is_remote, join, publish


@dataclass(frozen=True)
class Decided:
    """What a run has to do.

    Attributes:
        word: "train" or "skip".
        sections: of the training tasks of a candidate, JSON; empty in mode "study", and for "skip".
        scalars: for the table of metrics.
    """

    word: str
    sections: str
    scalars: dict[str, float]


def decide_run(
    experiment: str, root: str, run: str, records_file: Path, page: Path, metrics: Path
) -> Decided:
    """Decides what a run for a champion has to do, and keeps why in the run's folder.

    Args:
        experiment: the whole experiment, JSON, with a section `retraining`.
        root: of datasets, runs and champions, a path or a URI.
        run: the run's name, unique below root.
        records_file: the Records document.
        page: where the HTML page about the changes goes.
        metrics: where the scalars go, as JSON.

    Raises:
        DataError: there are too few images, or the same ones for too long; or the champion takes others.
        ExperimentError: the champion's arm is not part of the experiment.
        StorageError: a place cannot be read or written.
    """
    study = decode(Experiment, experiment, "experiment")
    retraining = study.retraining
    if retraining is None:
        raise ExperimentError("experiment.retraining: is required; say which champion is retrained")
    if retraining.registry is not None and not is_remote(root):
        raise ExperimentError(
            f"retraining.registry: a registry can fetch models from a store only, the root is {root}; take a "
            "root gs://, s3:// or minio://, or leave the registry out"
        )
    records = load_records(records_file)
    held = current(root, retraining.champion)
    champion = held.champion if held else None
    today = _images(root, retraining.champion, records)
    changes = _changes(root, champion, records, today)
    decision = RetrainingDecision(
        champion=retraining.champion,
        run=run,
        time=now(),
        number=champion.number if champion else None,
        trains=True,
        reason="decides",
        experiment=study.name,
        fingerprint=study.fingerprint,
        data_fingerprint=records.manifest.fingerprint,
        code_version=code_version(),
        images=len(today.images),
        classes=changes.classes if changes else (),
        drift_p_value=changes.drift_p_value if changes else None,
    )
    reason = _nothing_new(champion, decision)
    trains = reason is None or retraining.force
    decision = decision.model_copy(
        update={"trains": trains, "reason": _reason(champion, decision, reason, retraining)}
    )
    html = changes_page(decision, champion, records.manifest, changes)
    publish(page, html.encode())
    publish(join(run_folder(root, run), "changes.html"), html.encode())
    scalars = _scalars(decision)
    publish(metrics, canonical_json(scalars).encode())
    write_decision(root, decision)
    _refuse_bad_data(root, retraining, champion, decision, reason)
    sections = _sections(study, retraining, champion) if trains and retraining.mode == "candidate" else ""
    say(f"decide: {'trains' if trains else 'skips'}: {decision.reason}")
    return Decided("train" if trains else "skip", sections, scalars)


def _images(root: str, name: str, records: Records) -> ImageList:
    """Which images today's records hold; looked at once for each data set."""
    place = images_file(root, name, records.manifest.fingerprint)
    known = read_images(place)
    if known is None:
        known = take_inventory(records)
        write_images(place, known)
    return known


def _changes(root: str, champion: Champion | None, records: Records, today: ImageList) -> Changes | None:
    if champion is None:
        return None
    candidate = champion.candidate
    if candidate.image_shape != records.manifest.image_shape:
        raise DataError(
            f"champion {champion.name}: takes images of {candidate.image_shape}, today's records hold "
            f"{records.manifest.image_shape}: is the champion of another data set; set data.image_size and "
            "data.channels as they were, or name another champion"
        )
    if not set(candidate.classes) & set(records.manifest.classes):
        raise DataError(
            f"champion {champion.name}: knows none of today's classes, "
            f"{', '.join(records.manifest.classes)}: is the champion of another data set; name another one"
        )
    place = images_file(root, champion.name, candidate.data_fingerprint)
    before = read_images(place)
    if before is None:
        raise DataError(
            f"{place}: is gone: it says which images the champion was trained on; restore it, or name "
            "another champion"
        )
    return compare_images(before, today)


def _nothing_new(champion: Champion | None, decision: RetrainingDecision) -> str | None:
    """Why there is nothing to train; None where there is."""
    if champion is None:
        return None
    candidate = champion.candidate
    same = ("data_fingerprint", "fingerprint", "code_version")
    if any(getattr(candidate, field) != getattr(decision, field) for field in same):
        return None
    return f"nothing has changed since run {candidate.run} made the champion"


def _reason(
    champion: Champion | None, decision: RetrainingDecision, nothing: str | None, retraining: Retraining
) -> str:
    if champion is None:
        return "there is no champion yet"
    if nothing is not None:
        return f"forced, although {nothing}" if retraining.force else nothing
    candidate, reasons = champion.candidate, []
    if candidate.data_fingerprint != decision.data_fingerprint:
        counts = [f"{decision.count(kind)} {kind}" for kind in ("added", "removed", "relabelled")]
        reasons.append(f"images have changed ({', '.join(counts)})")
    if candidate.fingerprint != decision.fingerprint:
        reasons.append("the experiment has changed")
    if candidate.code_version != decision.code_version:
        reasons.append(f"the code has changed from {candidate.code_version} to {decision.code_version}")
    return " and ".join(reasons)


def _refuse_bad_data(
    root: str,
    retraining: Retraining,
    champion: Champion | None,
    decision: RetrainingDecision,
    nothing: str | None,
) -> None:
    """Raises DataError, recorded and to be told, where data has shrunk or is late."""
    if champion is None:
        return
    before = sum(champion.candidate.images.values())
    outcome: str | None = None
    if decision.images < (1 - retraining.largest_shrink) * before:
        outcome = "shrunk"
        message = (
            f"data: {decision.images} images, the champion's data had {before}: more than "
            f"{retraining.largest_shrink:.3g} of them are gone; look for what is missing, or raise "
            "retraining.largest_shrink"
        )
    elif retraining.late_days is not None and nothing is not None and not retraining.force:
        days = _days_unchanged(root, champion, decision)
        if days > retraining.late_days:
            outcome = "late"
            message = (
                f"data: no new images for {days:.3g} days, retraining.late_days allows "
                f"{retraining.late_days:.3g}; look for what delivers them, or set retraining.force"
            )
    if outcome is None:
        return
    record = RetrainingRun.model_validate(
        {
            "outcome": outcome,
            "reason": message,
            "decision": decision.model_copy(update={"trains": False}),
            "cost": sum_costs(task_costs(root, decision.run)),
        }
    )
    write_retraining_run(root, record)
    details = {"run": decision.run, "images": decision.images, "images_before": before}
    write_notice(
        run_folder(root, decision.run),
        Notice(event="optduel.data.late", subject=decision.champion, summary=message, details=details),
    )
    tell_story(root, decision.champion, decision.run)
    raise DataError(message)


def _days_unchanged(root: str, champion: Champion, decision: RetrainingDecision) -> float:
    """For how long runs have found the same images, since the first of the last ones in a row."""
    seen = [run.decision for run in retraining_runs(root, champion.name) if run.decision.run != decision.run]
    since = champion.time
    for earlier in reversed(seen):
        if earlier.data_fingerprint != decision.data_fingerprint:
            break
        since = min(since, earlier.time)
    passed = datetime.datetime.fromisoformat(decision.time) - datetime.datetime.fromisoformat(since)
    return passed.total_seconds() / 86_400


def _sections(study: Experiment, retraining: Retraining, champion: Champion | None) -> str:
    arm = _arm(study, retraining, champion)
    sections = {"model": study.model, "arm": arm, "training": study.training, "compute": study.compute}
    return canonical_json({name: section.model_dump(mode="json") for name, section in sections.items()})


def _arm(study: Experiment, retraining: Retraining, champion: Champion | None) -> Arm:
    """What a candidate trains: the champion's arm, as the experiment has it where that has changed."""
    arms = {arm.name: arm for arm in study.arms}
    if champion is None:
        return arms[retraining.arm] if retraining.arm else study.arms[0]
    if champion.candidate.fingerprint == study.fingerprint:
        return champion.candidate.arm
    name = champion.candidate.arm.name
    if name not in arms:
        raise ExperimentError(
            f"experiment.arms: has no {name}, the arm of champion {champion.name}; there are "
            f"{', '.join(arms)}: name it so, or set retraining.mode to study"
        )
    return arms[name]


def _scalars(decision: RetrainingDecision) -> dict[str, float]:
    scalars = {"images": float(decision.images), "trains": float(decision.trains)}
    scalars |= {kind: float(decision.count(kind)) for kind in ("added", "removed", "relabelled")}
    if decision.drift_p_value is not None:
        scalars["drift_p_value"] = decision.drift_p_value
    return scalars

"""The gate stage's one call: from a run's trials and the champion's predictions to `gate.json`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from optduel.components.champions import (
    Candidate,
    Criterion,
    Judgement,
    Measured,
    Standing,
    model_folder,
    read_measured,
    render_page,
    run_trials,
    select_candidate,
    trained_arms,
    write_judgement,
)
from optduel.components.core import DataError, ExperimentError, say
from optduel.components.gate.criteria import calibration, class_floors, class_sets, enough_images, the_rule
from optduel.components.gate.paired import Outcomes, macro_f1
from optduel.components.records import Manifest, load_records
from optduel.components.results import (
    Interval,
    Parent,
    Predictions,
    Trial,
    lineage_of,
    now,
    predictions_file,
    read_predictions,
    run_folder,
    task_costs,
    write_lineage,
)
from optduel.components.settings import (
    Arm,
    Compute,
    Experiment,
    Gate,
    Model,
    Retraining,
    Section,
    Training,
    canonical_json,
    decode,
)
from optduel.components.storage import join, publish


class _Trained(Section):
    """What was trained: the sections of a training task."""

    model: Model
    arm: Arm
    training: Training
    compute: Compute


def judge_run(
    experiment: str, sections: str, root: str, run: str, records_file: Path, page: Path, metrics: Path
) -> dict[str, float | str]:
    """Chooses a run's candidate, judges it against the champion, and keeps the finding in the run's folder.

    Args:
        experiment: the whole experiment, JSON, with a section `retraining`.
        sections: of the candidate's training, as `decide` gave them, JSON; empty after a whole comparison.
        root: of datasets, runs and champions, a path or a URI.
        run: the run's name, unique below root.
        records_file: the Records document.
        page: where the HTML page goes.
        metrics: where the returned scalars go, as JSON.

    Returns:
        Names and values for KFP's table of metrics.

    Raises:
        DataError: a trial is missing, or the predictions are not of today's images.
        StorageError: a place cannot be read or written.
    """
    study = decode(Experiment, experiment, "experiment")
    retraining = study.retraining
    if retraining is None:
        raise ExperimentError("experiment.retraining: is required; say which champion is retrained")
    records = load_records(records_file)
    manifest = records.manifest
    arms: Sequence[Arm]
    if sections:
        arms, seeds = [decode(_Trained, sections, "sections").arm], retraining.seeds
    else:
        arms, seeds = trained_arms(root, run, study), study.study.seeds
    candidate = select_candidate(root, run, study, arms, seeds, manifest, retraining.gate.metric)
    measured, champion = read_measured(root, run)
    place = predictions_file(run_folder(root, run), candidate.arm.name, candidate.seed)
    predictions = read_predictions(place)
    if predictions.model_sha256 != candidate.model_sha256:
        raise DataError(f"{place}: is of another model than the candidate's; evaluate again")
    judgement = judge(retraining, run, candidate, manifest, predictions, measured, champion)
    write_judgement(root, judgement)
    trained = [trial for trial in run_trials(root, run, arms, seeds) if isinstance(trial, Trial)]
    parents = _parents(root, retraining.champion, measured)
    write_lineage(
        run_folder(root, run), lineage_of(run, study, records, trained, task_costs(root, run), parents)
    )
    html = render_page(Path(__file__).parent / "templates" / "gate.html", judgement=judgement)
    publish(page, html.encode())
    publish(join(run_folder(root, run), "gate.html"), html.encode())
    scalars = _scalars(judgement)
    publish(metrics, canonical_json(scalars).encode())
    for criterion in judgement.criteria:
        say(f"gate: {'passed' if criterion.passed else 'not passed'}: {criterion.name}: {criterion.sentence}")
    say(f"gate: {'passed' if judgement.passed else 'refused'}: {judgement.reason}")
    return scalars


def _parents(root: str, champion: str, measured: Measured) -> list[Parent]:
    if measured.number is None or measured.model_sha256 is None or measured.run is None:
        return []
    return [
        Parent(
            champion=champion,
            number=measured.number,
            run=measured.run,
            model_sha256=measured.model_sha256,
            folder=model_folder(root, champion, measured.model_sha256),
        )
    ]


def judge(
    retraining: Retraining,
    run: str,
    candidate: Candidate,
    manifest: Manifest,
    predictions: Predictions,
    measured: Measured,
    champion: Predictions | None,
) -> Judgement:
    """Judges a candidate by all criteria of the gate.

    Args:
        manifest: of today's records.
        predictions: the candidate's, of today's test split.
        measured: how the champion was measured.
        champion: its predictions of the images that are left to judge by; None where there are none.

    Raises:
        DataError: the predictions are not of the same images.
    """
    rule = retraining.gate
    criteria = [enough_images(measured.judged_images, rule), *calibration(candidate, rule)]
    standings: tuple[Standing, ...] = ()
    new = gone = tuple[str, ...]()
    if measured.number is not None:
        new = tuple(name for name in manifest.classes if name not in measured.classes)
        gone = tuple(name for name in measured.classes if name not in manifest.classes)
        criteria += class_sets(new, gone, rule)
        if champion is not None and champion.examples:
            outcomes = pair_outcomes(predictions, champion)
            criteria = [criteria[0], the_rule(outcomes, rule), *criteria[1:]]
            criteria += class_floors(outcomes, manifest.classes, rule)
            standings = _standings(candidate, measured, outcomes, rule)
    failed = [criterion for criterion in criteria if not criterion.passed]
    return Judgement(
        champion=retraining.champion,
        run=run,
        time=now(),
        number=measured.number,
        passed=not failed,
        reason=_reason(measured, criteria, failed),
        candidate=candidate,
        standings=standings,
        criteria=tuple(criteria),
        test_images=measured.test_images,
        seen_images=measured.seen_images,
        judged_images=measured.judged_images,
        new_classes=new,
        gone_classes=gone,
    )


def _reason(measured: Measured, criteria: Sequence[Criterion], failed: Sequence[Criterion]) -> str:
    if failed:
        return "; ".join(f"{one.name}: {one.sentence}" for one in failed)[:1000]
    if measured.number is None:
        return "there was no champion"
    return next(one.sentence for one in criteria if one.name != "images")[:1000]


def pair_outcomes(candidate: Predictions, champion: Predictions) -> Outcomes:
    """What both said of the champion's images, in the candidate's classes.

    Raises:
        DataError: the candidate has said nothing of one of them.
    """
    rows = {example: row for row, example in enumerate(candidate.examples)}
    missing = sum(example not in rows for example in champion.examples)
    if missing:
        raise DataError(
            f"predictions: {missing} of the champion's {len(champion.examples)} images are none of the "
            "candidate's; run the retraining again"
        )
    chosen = np.array([rows[example] for example in champion.examples])
    known = {name: index for index, name in enumerate(candidate.classes)}
    in_candidate = np.array([known.get(name, -1) for name in champion.classes])
    labels = candidate.labels[chosen]
    if not np.array_equal(labels, in_candidate[champion.labels]):
        raise DataError("predictions: candidate and champion disagree on labels; run the retraining again")
    return Outcomes(
        labels=labels,
        candidate=candidate.probabilities[chosen].argmax(axis=1),
        champion=in_candidate[champion.probabilities.argmax(axis=1)],
        candidate_losses=_losses(candidate.probabilities[chosen], labels),
        champion_losses=_losses(champion.probabilities, champion.labels),
        classes=len(candidate.classes),
    )


def _losses(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """In nats; a probability that underflowed to 0 counts as the smallest normal one, as in an evaluation."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(of_truth, np.finfo(np.float64).tiny, 1)), dtype=np.float64)


def _standings(
    candidate: Candidate, measured: Measured, outcomes: Outcomes, rule: Gate
) -> tuple[Standing, ...]:
    both = (
        (candidate.model_sha256, candidate.run, outcomes.candidate, outcomes.candidate_losses),
        (measured.model_sha256, measured.run, outcomes.champion, outcomes.champion_losses),
    )
    return tuple(
        Standing(
            model_sha256=str(sha256),
            run=str(run),
            accuracy=_proportion(predicted == outcomes.labels, rule.confidence),
            cross_entropy=float(losses.mean()),
            macro_f1=macro_f1(outcomes.labels, predicted, outcomes.classes),
        )
        for sha256, run, predicted, losses in both
    )


def _proportion(right: NDArray[np.bool_], confidence: float) -> Interval:
    """With its Wilson score interval."""
    found = scipy.stats.binomtest(int(np.count_nonzero(right)), len(right))
    bounds = found.proportion_ci(confidence, method="wilson")
    return Interval(value=float(found.statistic), low=float(bounds.low), high=float(bounds.high))


def _scalars(judgement: Judgement) -> dict[str, float | str]:
    scalars: dict[str, float | str] = {
        "passed": float(judgement.passed),
        "judged_images": float(judgement.judged_images),
        "seen_images": float(judgement.seen_images),
    }
    for name, standing in zip(("candidate", "champion"), judgement.standings, strict=False):
        scalars[f"{name}_accuracy"] = standing.accuracy.value
        scalars[f"{name}_cross_entropy"] = standing.cross_entropy
    return scalars

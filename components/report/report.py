"""The report stage's one call, from the documents of the stages before to the page and its figures."""

import datetime
from pathlib import Path

from optduel.components.core import say
from optduel.components.records import load_records
from optduel.components.report.render import build_report
from optduel.components.results import (
    HISTORY_NAME,
    Choice,
    Comparison,
    DivergedTrial,
    Divergence,
    IndexedArm,
    PairedComparison,
    RunCost,
    Trial,
    TrialHistory,
    Trials,
    lineage_of,
    read_choice,
    read_document,
    run_folder,
    sum_costs,
    task_costs,
    write_history_table,
    write_index,
    write_lineage,
)
from optduel.components.settings import Experiment, canonical_json, decode
from optduel.components.storage import join, publish


def write_report(
    experiment: str,
    root: str,
    run: str,
    records: Path,
    collected: Path,
    comparison: Path,
    page: Path,
    plots: Path,
    summary: Path,
) -> None:
    """Builds the report, writes its parts, and puts the run where queries over many runs find it.

    Args:
        experiment: the whole experiment, JSON.
        root: of datasets and runs, a path or a URI.
        run: the run's name, unique below root.
        plots: folder for the PNG and SVG files.

    Raises:
        DataError: the parts do not belong to one study, or a history is incomplete.
        StorageError: a document cannot be read or a part not written.
    """
    study = decode(Experiment, experiment, "experiment")
    trials = read_document(collected, Trials)
    verdict = read_document(comparison, Comparison)
    costs, choice = task_costs(root, run), read_choice(run_folder(root, run))
    report = build_report(study, load_records(records), trials, verdict, costs, choice)
    for name, content in report.figures.items():
        publish(plots / name, content)
    publish(summary, report.summary.encode())
    publish(page, report.html.encode())
    if study.retraining is not None:  # whose stages put their pages into the run's folder themselves
        publish(join(run_folder(root, run), "report.html"), report.html.encode())
    write_tables(root, run, study, trials, verdict, choice)
    write_lineage(run_folder(root, run), lineage_of(run, study, load_records(records), trials.trials, costs))
    say(f"report: a page and {len(report.figures)} figures")


def write_tables(
    root: str,
    run: str,
    experiment: Experiment,
    trials: Trials,
    comparison: Comparison,
    choice: Choice | None = None,
) -> None:
    """Writes both; the index last, so that whatever it names is there.

    Args:
        root: of datasets and runs.
        run: the run's name, unique below root.
        trials: of all arms and seeds.
        comparison: of these trials.
        choice: what tuning has found, where the study tuned.

    Raises:
        StorageError: a table cannot be written.
    """
    ended = trials.ended()
    wanted = [(arm.name, seed) for arm in experiment.arms for seed in experiment.study.seeds]
    histories = [_history(run, experiment, ended[trial]) for trial in wanted]
    write_history_table(join(run_folder(root, run), HISTORY_NAME), histories)
    cost = sum_costs(task_costs(root, run))
    write_index(root, run, _arms(experiment, histories, comparison, cost, choice))


def _history(run: str, experiment: Experiment, trial: Trial | DivergedTrial) -> TrialHistory:
    training = trial.training
    started = datetime.datetime.fromisoformat(training.started).astimezone(datetime.UTC)
    return TrialHistory(
        run=run,
        experiment=experiment.name,
        fingerprint=experiment.fingerprint,
        data_fingerprint=training.data_fingerprint,
        arm=training.arm,
        seed=training.seed,
        diverged_step=training.step if isinstance(training, Divergence) else None,
        code_version=training.environment.code_version,
        # DuckDB's Python client needs one more package to hand out times with a zone.
        started=started.replace(tzinfo=None),
        precision=training.precision,
        workers=training.workers,
        replicas=training.replicas,
        rows=trial.history,
    )


def _arms(
    experiment: Experiment,
    histories: list[TrialHistory],
    comparison: Comparison,
    cost: RunCost,
    choice: Choice | None,
) -> list[IndexedArm]:
    first = min(histories, key=lambda history: history.started)
    run = {
        "run": first.run,
        "experiment": experiment.name,
        "title": experiment.title,
        "fingerprint": experiment.fingerprint,
        "data_fingerprint": first.data_fingerprint,
        "code_version": first.code_version,
        "started": first.started,
        "split": comparison.split,
        **cost.model_dump(exclude={"tasks"}),
    }
    verdicts = {pair.challenger: _verdict(pair) for pair in comparison.comparisons}
    tuned = {arm.arm: arm for arm in choice.arms} if choice else {}
    arms = []
    for summary in comparison.arms:
        medians = summary.model_dump(include={"arm", "median_accuracy", "median_cross_entropy"})
        verdict = verdicts.get(summary.arm, {})
        counts = {"seeds": len(summary.seeds), "diverged": len(summary.diverged)}
        if found := tuned.get(summary.arm):
            setting = {"settings": len(found.settings), "setting": canonical_json(found.values)}
            verdict = verdict | setting
        arms.append(IndexedArm.model_validate(run | medians | counts | verdict))
    return arms


def _verdict(pair: PairedComparison) -> dict[str, object]:
    verdict: dict[str, object] = pair.model_dump(include=set(IndexedArm.model_fields) - {"seeds"})
    if other := pair.other_images:
        verdict |= {
            "images_low": other.interval_low,
            "images_high": other.interval_high,
            "images_answer": other.answer,
        }
    if needed := pair.needed:
        verdict |= {"seeds_needed": needed.seeds, "images_needed": needed.examples}
    return verdict

"""Makes the report of a run whose trials are complete, with today's code, from what the run has kept."""

from optduel.components.champions import RetrainingRun, decision_file, read_decision
from optduel.components.compare.compare import compare_arms, gather, gather_predictions
from optduel.components.core import DataError
from optduel.components.records import load_records
from optduel.components.report.render import build_report
from optduel.components.report.report import write_tables
from optduel.components.results import (
    COMPARISON_NAME,
    EXPERIMENT_NAME,
    LINEAGE_NAME,
    RECORDS_NAME,
    Comparison,
    TaskCost,
    Trials,
    indexed_runs,
    read_choice,
    read_document,
    read_lineage,
    write_document,
)
from optduel.components.settings import Experiment, decode
from optduel.components.storage import join, publish, read, stat
from optduel.pipeline.local.run import is_run, load_run


def _costs(folder: str) -> tuple[TaskCost, ...]:
    """What the run had cost when its report was made: the same page again has the same bytes."""
    return read_lineage(folder).costs if stat(join(folder, LINEAGE_NAME)) else ()


def told(found: Comparison | RetrainingRun) -> list[str]:
    """What a run found, in sentences."""
    if isinstance(found, Comparison):
        return [pair.sentence for pair in found.comparisons]
    return [f"{found.decision.champion}: {found.outcome}: {found.reason}"]


def rebuild(folder: str) -> str:
    """Rewrites `report.html` and `plots/` of a run, of this machine or of a cluster.

    A run that failed after its last trial is compared here, too, and put where `optduel history` finds it.

    Args:
        folder: the run's, a path or a URI.

    Returns:
        The page.

    Raises:
        DataError: a trial is missing, what the run has kept does not belong together, it was on a cluster
            and ended before it was compared, or it retrained a champion and compared nothing.
        StorageError: something that it kept is missing, or the report cannot be written.
    """
    experiment = _experiment(folder)
    trials = gather(experiment, folder)
    comparison = _comparison(folder, experiment, trials)
    records, choice = load_records(join(folder, RECORDS_NAME)), read_choice(folder)
    report = build_report(experiment, records, trials, comparison, _costs(folder), choice)
    for name, content in report.figures.items():
        publish(join(folder, "plots", name), content)
    page = join(folder, "report.html")
    publish(page, report.html.encode())
    root, _, run = folder.rpartition("/runs/")
    if root and "/" not in run and run not in indexed_runs(root):
        write_tables(root, run, experiment, trials, comparison, choice)
    return page


def _experiment(folder: str) -> Experiment:
    place = join(folder, EXPERIMENT_NAME)
    if stat(place):
        return decode(Experiment, read(place).decode(), place)
    experiment = load_run(folder).experiment if is_run(folder) else None
    retraining = experiment.retraining if experiment else None
    root, _, run = folder.rpartition("/runs/")
    is_study = retraining is not None and retraining.mode == "study"
    if root and stat(decision_file(root, run)) and not is_study:
        champion = read_decision(root, run).champion
        raise DataError(
            f"{folder}: retrained the champion {champion}, and compared no arms; "
            f"`optduel champion history {champion} --root {root}` tells what came of it"
        )
    if experiment is None and stat(join(folder, RECORDS_NAME)):
        raise DataError(
            f"{folder}: the run ended on its cluster before it was compared; submit it again with the same "
            "--root: finished trials are taken over"
        )
    return experiment or load_run(folder).experiment


def _comparison(folder: str, experiment: Experiment, trials: Trials) -> Comparison:
    place = join(folder, COMPARISON_NAME)
    if stat(place):
        return read_document(place, Comparison)
    names = [arm.name for arm in experiment.arms]
    comparison = compare_arms(experiment.study, names, trials, gather_predictions(trials, folder))
    write_document(place, comparison)
    return comparison

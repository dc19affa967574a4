"""Makes the report of a finished run again, with today's code, from what the run has kept."""

from optduel.components.core import DataError
from optduel.components.records import load_records
from optduel.components.report.render import build_report
from optduel.components.results import (
    COMPARISON_NAME,
    EXPERIMENT_NAME,
    RECORDS_NAME,
    Comparison,
    Trial,
    Trials,
    read_document,
    trial_document,
)
from optduel.components.settings import Experiment, decode
from optduel.components.storage import join, publish, read, stat
from optduel.pipeline.local.run import load_run


def rebuild(folder: str) -> str:
    """Rewrites `report.html` and `plots/` of a run, of this machine or of a cluster.

    Args:
        folder: the run's, a path or a URI.

    Returns:
        The page.

    Raises:
        DataError: the run has not finished.
        StorageError: something that it kept is missing, or the report cannot be written.
    """
    place = join(folder, EXPERIMENT_NAME)
    if stat(place) is None:
        status = load_run(folder).status
        raise DataError(f"{folder}: run = {status}: only a finished run has a report; run it again")
    experiment = decode(Experiment, read(place).decode(), place)
    trials = [
        read_document(trial_document(folder, arm.name, seed), Trial)
        for arm in experiment.arms
        for seed in experiment.study.seeds
    ]
    report = build_report(
        experiment,
        load_records(join(folder, RECORDS_NAME)),
        Trials(trials=tuple(trials)),
        read_document(join(folder, COMPARISON_NAME), Comparison),
    )
    for name, content in report.figures.items():
        publish(join(folder, "plots", name), content)
    page = join(folder, "report.html")
    publish(page, report.html.encode())
    return page

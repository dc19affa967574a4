"""Makes the report of a finished run again, with today's code, from what the run has kept."""

from optduel.components.core import DataError
from optduel.components.records import load_records
from optduel.components.report.render import build_report
from optduel.components.results import Comparison, Trials, read_document
from optduel.components.storage import join, publish
from optduel.pipeline.local.run import load_run


def rebuild(folder: str) -> str:
    """Rewrites `report.html` and `plots/` of a run.

    Args:
        folder: the run's, a path or a URI.

    Returns:
        The page.

    Raises:
        DataError: the run has not finished.
        StorageError: something that it kept is missing, or the report cannot be written.
    """
    run = load_run(folder)
    if run.status != "succeeded" or not (run.records and run.collected and run.comparison):
        raise DataError(f"{folder}: run = {run.status}: only a finished run has a report; run it again")
    report = build_report(
        run.experiment,
        load_records(join(folder, run.records)),
        read_document(join(folder, run.collected), Trials),
        read_document(join(folder, run.comparison), Comparison),
    )
    for name, content in report.figures.items():
        publish(join(folder, "plots", name), content)
    page = join(folder, "report.html")
    publish(page, report.html.encode())
    return page

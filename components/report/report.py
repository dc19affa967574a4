"""The report stage's one call, from the documents of the stages before to the page and its figures."""

from pathlib import Path

from optduel.components.core.narration import say
from optduel.components.records.manifest import load_records
from optduel.components.report.render import build_report
from optduel.components.report.tables import write_tables
from optduel.components.results.documents import Comparison, Trials, read_document
from optduel.components.settings.authoring import decode
from optduel.components.settings.experiment import Experiment
from optduel.components.storage.objects import publish


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
    report = build_report(study, load_records(records), trials, verdict)
    for name, content in report.figures.items():
        publish(plots / name, content)
    publish(summary, report.summary.encode())
    publish(page, report.html.encode())
    write_tables(root, run, study, trials, verdict)
    say(f"report: a page and {len(report.figures)} figures")

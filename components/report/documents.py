"""The report stage's one call, from the documents of the stages before to the page and its figures."""

from pathlib import Path

from components.core.authoring import decode
from components.core.experiment import Experiment
from components.core.narration import say
from components.core.records import load_records
from components.core.results import Comparison, Trials, read_document
from components.core.storage import publish
from components.report.render import build_report


def write_report(
    experiment: str, records: Path, collected: Path, comparison: Path, page: Path, plots: Path, summary: Path
) -> None:
    """Builds the report and writes its parts.

    Args:
        experiment: the whole experiment, JSON.
        plots: folder for the PNG and SVG files.

    Raises:
        DataError: the parts do not belong to one study, or a history is incomplete.
        StorageError: a document cannot be read or a part not written.
    """
    report = build_report(
        decode(Experiment, experiment, "experiment"),
        load_records(records),
        read_document(collected, Trials),
        read_document(comparison, Comparison),
    )
    for name, content in report.figures.items():
        publish(plots / name, content)
    publish(summary, report.summary.encode())
    publish(page, report.html.encode())
    say(f"report: a page and {len(report.figures)} figures")

"""The report in a few lines of Markdown, for the run page of Kubeflow Pipelines."""

from collections.abc import Mapping, Sequence

from optduel.components.report.outcomes import metric_rows
from optduel.components.results.documents import Comparison, Trial
from optduel.components.settings.experiment import Experiment


def summary_page(
    experiment: Experiment,
    arms: Mapping[str, Sequence[Trial]],
    comparison: Comparison,
    warnings: Sequence[str],
) -> str:
    """Verdict, cautions and the table of final results."""
    seeds = len(experiment.study.seeds)
    lines = [f"# {_plain(experiment.title)}", ""]
    for pair in comparison.comparisons:
        lines += [f"**{pair.sentence}**", ""]
    cautions = [*comparison.cautions, *warnings]
    if cautions:
        lines += [*(f"- {caution}" for caution in cautions), ""]
    lines += [
        f"Final results on the {comparison.split} split: median (smallest to largest) of {seeds} "
        f"seed{'' if seeds == 1 else 's'}.",
        "",
        f"| metric | {' | '.join(arms)} |",
        f"| --- |{' ---: |' * len(arms)}",
    ]
    for row in metric_rows(arms):
        cells = " | ".join(f"{spread.median} ({spread.low} to {spread.high})" for spread in row.arms)
        lines.append(f"| {row.name} ({row.better} is better) | {cells} |")
    return "\n".join([*lines, "", "The whole report is the artifact `page` of this task."]) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown and the HTML in it leave alone."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>&#|" else character for character in text)

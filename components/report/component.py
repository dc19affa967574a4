"""The KFP face of the report stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def report(
    experiment: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    collected: dsl.Input[dsl.Dataset],
    comparison: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    plots: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Builds the report of a finished study.

    Args:
        experiment: The whole experiment, as JSON.
        root: Folder of data sets, runs and their index, a path or a URI.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        collected: All trials.
        comparison: The verdict and its numbers, as JSON.
        page: The report, one HTML file that needs nothing beside it.
        plots: Folder with every figure as PNG and SVG.
        summary: The verdict and the table of final results.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.report.report import write_report
    from optduel.components.results import metered

    with exit_on_error("report"), metered("report", root, run):
        inputs = [Path(artifact.path) for artifact in (records, collected, comparison)]
        outputs = [Path(artifact.path) for artifact in (page, plots, summary)]
        write_report(experiment, root, run, *inputs, *outputs)

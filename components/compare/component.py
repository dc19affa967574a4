"""The KFP face of the compare stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def compare(
    experiment: str,
    root: str,
    run: str,
    collected: dsl.Output[dsl.Dataset],
    comparison: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Gathers a run's trials, and compares every arm with the first one, paired by seed.

    Args:
        experiment: The whole experiment, as JSON.
        root: Folder of data sets, runs and their index, a path or a URI.
        run: The run's name, unique below root.
        collected: All trials, as JSON.
        comparison: The verdict and its numbers, as JSON.
        metrics: Medians, differences, intervals, p-values and the answer.
        summary: The verdict as a page.
    """
    from pathlib import Path

    from optduel.components.compare.compare import compare_documents
    from optduel.components.core import exit_on_error
    from optduel.components.results import metered
    from optduel.components.settings import canonical_json
    from optduel.components.storage import publish

    with exit_on_error("compare"), metered("compare", root, run):
        paths = [Path(artifact.path) for artifact in (collected, comparison, summary)]
        metrics.metadata.update(compare_documents(experiment, root, run, *paths))
        publish(Path(metrics.path), canonical_json(metrics.metadata).encode())

"""The KFP face of the gate stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def gate(
    experiment: str,
    sections: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Chooses the run's candidate by its validation images, and judges it against the champion.

    Args:
        experiment: The whole experiment, as JSON.
        sections: Of the candidate's training, as JSON; empty after a whole comparison.
        root: Folder of data sets, runs and champions, a path or a URI.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        page: Every criterion with its numbers, one HTML page that needs nothing beside it.
        metrics: The same in numbers.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.gate.judging import judge_run
    from optduel.components.results import metered

    with exit_on_error("gate"), metered("gate", root, run):
        paths = [Path(artifact.path) for artifact in (records, page, metrics)]
        metrics.metadata.update(judge_run(experiment, sections, root, run, *paths))

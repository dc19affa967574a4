"""The KFP face of the choose stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def choose(
    experiment: str,
    root: str,
    run: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Chooses the best setting of every arm from what tuning has found on the validation split.

    Args:
        experiment: The whole experiment, as JSON.
        root: Folder of data sets, trials and runs, a path or a URI.
        run: The run's name, unique below root.
        page: Rank tables, tuning curves and maps, one HTML file that needs nothing beside it.
        metrics: The chosen settings, their scores and what finding them took.
    """
    from pathlib import Path

    from optduel.components.choose.choose import choose_settings
    from optduel.components.core import exit_on_error
    from optduel.components.results import metered

    with exit_on_error("choose"), metered("choose", root, run):
        files = Path(page.path), Path(metrics.path)
        chosen, scalars = choose_settings(experiment, root, run, *files)
        metrics.metadata.update(scalars)
        return chosen

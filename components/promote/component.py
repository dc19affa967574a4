"""The KFP face of the promote stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def promote(
    retraining: str,
    root: str,
    run: str,
    timeline: dsl.Output[dsl.HTML],
) -> None:
    """Makes the run's candidate the champion, if the gate lets it pass, and tells the champion's story anew.

    Args:
        retraining: The experiment's retraining section, as JSON.
        root: Folder of data sets, runs and champions, a path or a URI.
        run: The run's name, unique below root.
        timeline: The champion's story, one HTML page that needs nothing beside it.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.promote.concluding import promote_run
    from optduel.components.results import metered

    with exit_on_error("promote"), metered("promote", root, run):
        promote_run(retraining, root, run, Path(timeline.path))


@dsl.component(base_image="optduel", install_kfp_package=False)
def skip(
    retraining: str,
    root: str,
    run: str,
    timeline: dsl.Output[dsl.HTML],
) -> None:
    """Records that the run had nothing to do, and tells the champion's story anew.

    Args:
        retraining: The experiment's retraining section, as JSON.
        root: Folder of data sets, runs and champions, a path or a URI.
        run: The run's name, unique below root.
        timeline: The champion's story, one HTML page that needs nothing beside it.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.promote.concluding import skip_run
    from optduel.components.results import metered

    with exit_on_error("skip"), metered("skip", root, run):
        skip_run(retraining, root, run, Path(timeline.path))

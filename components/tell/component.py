"""The KFP face of the stage that tells what became of a run."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def tell(experiment: str, events: str, root: str, run: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Sends alerts, after all other tasks and whatever became of them.

    Args:
        experiment: Its name.
        events: That are told, a JSON list.
        root: Folder of data sets, runs and their index, a path or a URI.
        run: The run's name, unique below root.
        status: What became of the other tasks, as far as Kubeflow Pipelines tells.
    """
    from optduel.components.core import exit_on_error
    from optduel.components.settings import decode
    from optduel.components.tell.ending import ending_of
    from optduel.components.tell.telling import tell_run

    with exit_on_error("tell"):
        tell_run(experiment, root, run, ending_of(run, status.state), decode(list[str], events, "events"))

"""The KFP face of the decide stage."""

from typing import NamedTuple

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def decide(
    experiment: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    changes: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Decided", [("Output", str), ("sections", str)]):  # type: ignore[valid-type]
    """Decides whether a candidate is trained, and with which settings.

    Args:
        experiment: The whole experiment, as JSON.
        root: Folder of data sets, runs and champions, a path or a URI.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        changes: What has changed since the champion was trained, one HTML page that needs nothing beside it.
        metrics: The same in numbers.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.decide.deciding import decide_run
    from optduel.components.results import metered

    with exit_on_error("decide"), metered("decide", root, run):
        paths = [Path(artifact.path) for artifact in (records, changes, metrics)]
        decided = decide_run(experiment, root, run, *paths)
        metrics.metadata.update(decided.scalars)
    # Kubeflow Pipelines' local runner knows a condition on an output of this name only.
    return decided.word, decided.sections

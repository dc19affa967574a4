"""The KFP faces of the compare stage: trials are gathered arm by arm, then compared."""

from typing import List

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def collect_arm(
    trials: dsl.Input[List[dsl.Dataset]],
    collected: dsl.Output[dsl.Dataset],
    previous: dsl.Input[dsl.Dataset] = None,
) -> None:
    """Adds the trials of one arm to those of the arms before it: one signature for any number of arms.

    Args:
        trials: The arm's trials, one artifact a seed.
        collected: All trials so far, as JSON.
        previous: What the arm before collected; absent for the first arm.
    """
    from pathlib import Path

    from optduel.components.compare.compare import collect_documents
    from optduel.components.core import exit_on_error

    with exit_on_error("compare"):
        before = Path(previous.path) if previous else None
        collect_documents(before, [Path(trial.path) for trial in trials], Path(collected.path))


@dsl.component(base_image="optduel", install_kfp_package=False)
def compare(
    study: str,
    arms: str,
    collected: dsl.Input[dsl.Dataset],
    comparison: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Compares every arm with the first one, paired by seed.

    Args:
        study: The experiment's study section, as JSON.
        arms: The names of the arms in the experiment's order, as a JSON list.
        collected: All trials.
        comparison: The verdict and its numbers, as JSON.
        metrics: Medians, differences, intervals, p-values and the answer.
        summary: The verdict as a page.
    """
    from pathlib import Path

    from optduel.components.compare.compare import compare_documents
    from optduel.components.core import exit_on_error
    from optduel.components.settings import canonical_json
    from optduel.components.storage import publish

    with exit_on_error("compare"):
        paths = [Path(artifact.path) for artifact in (collected, comparison, summary)]
        scalars = compare_documents(study, arms, *paths)
        publish(Path(metrics.path), canonical_json(scalars).encode())
    metrics.metadata.update(scalars)

"""How large a run may become: Kubeflow Pipelines' record of it, an Argo Workflow, has a limit."""

import math
from collections.abc import Sequence

from optduel.components.core import ExperimentError
from optduel.components.settings import Deployment, Experiment

MOST_TRAINING_TASKS = 20
"""Of a run, unless more have to train at a time; with as many evaluations below half of the limit."""

LIMIT_BYTES = 1024 * 1024
"""Of a Workflow, its nodes packed, in Argo as it is installed."""

LOCAL_TASKS = 2
"""Of an arm's trials on this machine: KFP's local runner runs two iterations of a loop at a time."""

_GROWTH = 2.0
"""Bytes of a finished run's Workflow for each byte of the compiled pipeline: 1.7 to 2.0 (measured)."""


def batches(experiment: Experiment, deployment: Deployment) -> list[list[int]]:
    """The seeds of each training task of an arm: one, as long as the run has room for all of them."""
    seeds = experiment.study.seeds
    room = max(MOST_TRAINING_TASKS // len(experiment.arms), deployment.trials_at_once)
    size = math.ceil(len(seeds) / room)
    return shared_out(seeds, math.ceil(len(seeds) / size))


def shared_out(seeds: Sequence[int], count: int) -> list[list[int]]:
    """The seeds in as many equal parts, so that none is left with one seed; fewer where there are fewer."""
    count = min(count, len(seeds))
    edges = [index * len(seeds) // count for index in range(count + 1)]
    return [list(seeds[start:end]) for start, end in zip(edges, edges[1:], strict=False)]


def seeds_in_words(seeds: list[int]) -> str:
    """How a task's trials are called: `seed 3`, `seeds 0-9`, `seeds 3,5,8`."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return "seeds " + ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def check_size(package: bytes, experiment: Experiment, deployment: Deployment) -> None:
    """Refuses a run that would need more than half of what Argo takes.

    Raises:
        ExperimentError: says what makes it large.
    """
    tuning = experiment.tuning
    if tuning and tuning.tasks * len(experiment.arms) > MOST_TRAINING_TASKS:
        raise ExperimentError(
            f"tuning.tasks = {tuning.tasks}: with {len(experiment.arms)} arms the run has "
            f"{tuning.tasks * len(experiment.arms)} tuning tasks; give at most "
            f"{MOST_TRAINING_TASKS // len(experiment.arms)}, each trains more settings then"
        )
    expected = round(_GROWTH * len(package))
    if expected <= LIMIT_BYTES // 2:
        return
    arms, at_once = len(experiment.arms), deployment.trials_at_once
    tasks = arms * len(batches(experiment, deployment))
    raise ExperimentError(
        f"trials_at_once = {at_once}: with {arms} arms the run has {tasks} training tasks, and its record in "
        f"Kubeflow Pipelines would take about {expected // 1024} of {LIMIT_BYTES // 1024} KiB; must stay "
        f"below half: give at most {max(1, MOST_TRAINING_TASKS // arms)}, fewer arms or seeds, or a shorter "
        "environment"
    )

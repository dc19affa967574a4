"""Puts a task behind all others, and whatever becomes of them, that tells what did."""

import contextlib
from typing import Any

from kfp import dsl, kubernetes

from optduel.components.settings import ALERT_VARIABLES, Deployment, canonical_json
from optduel.components.tell import component as telling
from optduel.pipeline.graph.lean import lean
from optduel.pipeline.graph.placement import Placement

tell = lean(telling.tell)


def told_at_the_end(
    placement: Placement, deployment: Deployment | None, experiment: str, root: Any, run: str
) -> contextlib.AbstractContextManager[Any]:
    """What the tasks of a pipeline are made in, for the deployment's alerts.

    Without them it does nothing. On this machine the command that runs the tasks tells itself: it outlives
    them, and knows what they said.

    Args:
        placement: of the task that tells.
        deployment: where on a cluster; None on this machine.
        experiment: its name.
        root: the pipeline's parameter.
        run: the run's name.
    """
    if deployment is None or deployment.alerts is None:
        return contextlib.nullcontext()
    alerts = deployment.alerts
    task = tell(experiment=experiment, events=canonical_json(list(alerts.events)), root=root, run=run)
    # Optional: a pod whose secret is missing would wait for ever, and with it the run.
    kubernetes.use_secret_as_env(task, alerts.secret_name, dict(ALERT_VARIABLES), optional=True)
    handler: contextlib.AbstractContextManager[Any] = dsl.ExitHandler(
        placement.place(task, "tell", "report"), name="tasks"
    )
    return handler

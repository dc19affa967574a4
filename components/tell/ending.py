"""What became of a run on Kubeflow Pipelines, seen by its last task while it still runs.

The state that an exit task is given is ambiguous: RUNNING stands for a run that was terminated, and for
several that succeeded. So the run's Workflow is read, which also knows the task and its words.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from optduel.components.core import ClusterError, say
from optduel.components.workflows import read_workflow, run_tasks, specification_of

ADDRESS_VARIABLE = "KF_PIPELINES_ENDPOINT"
"""Names the API, where it is not `ml-pipeline` in the run's namespace."""

TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105  # a path
"""Names a file with a bearer token for it."""

SETTLING_SECONDS = 60.0
"""So long a failure may take to be seen in the Workflow that the API hands out."""

POLL_SECONDS = 5.0
TIMEOUT_SECONDS = (5, 30)

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Ending:
    """What became of a run.

    Attributes:
        state: "unknown" where Kubeflow Pipelines leaves it open and its API does not answer.
        causes: of a failure, each a task and its words.
    """

    state: Literal["done", "failed", "cancelled", "unknown"]
    causes: tuple[str, ...] = ()


def ending_of(run_id: str, told: str) -> Ending:
    """What became of all tasks but the one that asks.

    Args:
        run_id: Kubeflow Pipelines' identifier.
        told: the state that it gives to an exit task.
    """
    until = time.monotonic() + SETTLING_SECONDS
    while True:
        try:
            found = _look(run_id)
        except ClusterError as error:
            say(f"tell: what became of the tasks cannot be read: {error}")
            states: dict[str, Ending] = {"FAILED": Ending("failed", ("its tasks' states cannot be read",))}
            return states.get(told, Ending("unknown" if told == "RUNNING" else "done"))
        if found.state != "done" or told != "FAILED" or time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)
    return found if found.state != "done" or told != "FAILED" else Ending("failed", ("no task tells why",))


def _look(run_id: str) -> Ending:
    answer = _read(f"/apis/v1beta1/runs/{run_id}")
    workflow = read_workflow(answer, specification_of(answer))
    if workflow.is_cancelled:
        return Ending("cancelled")
    failed = [task for task in run_tasks(workflow) if task.state == "FAILED"]
    causes = tuple(f"{task.name}: {task.message or 'see its log'}" for task in failed)
    return Ending("failed", causes) if failed else Ending("done")


def _read(path: str) -> Any:
    import requests

    address = os.environ.get(ADDRESS_VARIABLE) or _in_cluster()
    headers = {}
    try:
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {Path(token).read_text(encoding='utf-8').strip()}"
        answer = requests.get(address.rstrip("/") + path, headers=headers, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return answer.json()
    except (requests.RequestException, OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: {error}; allow this task to reach Kubeflow Pipelines, or set {ADDRESS_VARIABLE}"
        ) from error


def _in_cluster() -> str:
    try:
        namespace = _NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(f"{ADDRESS_VARIABLE}: is not set, and this is no pod: {error.strerror}") from error
    return f"http://ml-pipeline.{namespace}:8888"

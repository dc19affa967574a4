"""Names and labels of a training job, from which any later attempt of the same step finds it."""

import hashlib
import re

from optduel.components.core.errors import ExperimentError

LONGEST_NAME = 46
"""Trainer makes pods NAME-node-0-INDEX of it, with six characters more below 63: up to 1000 workers."""

MANAGER = "optduel"
MANAGED_BY = "app.kubernetes.io/managed-by"
RUN = "pipeline/runid"
TASK = "optduel.io/task"
ATTEMPT = "optduel.io/attempt"
QUEUE = "kueue.x-k8s.io/queue-name"

_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def task_digest(run: str, task: str) -> str:
    """Stands for one task of one run: the same in every attempt, another in every iteration of a loop."""
    return hashlib.sha256(f"{run}\n{task}".encode()).hexdigest()[:16]


def job_name(digest: str, attempt: int) -> str:
    """A DNS label of at most `LONGEST_NAME` characters."""
    return f"{MANAGER}-{digest}-{attempt}"


def labels(run: str, digest: str, queue: str | None) -> dict[str, str]:
    """Those of a job that do not differ between its attempts.

    Raises:
        ExperimentError: the run's identifier cannot be a label.
    """
    if not _LABEL.fullmatch(run):
        raise ExperimentError(
            f"run = {run!r}: must be the identifier of a run, up to 63 letters, digits, '-', '_' and '.'"
        )
    found = {MANAGED_BY: MANAGER, RUN: run, TASK: digest}
    return found | ({QUEUE: queue} if queue else {})


def selector(digest: str) -> str:
    """Selects the jobs of all attempts of a task."""
    return f"{MANAGED_BY}={MANAGER},{TASK}={digest}"

"""What a training job is to the launcher, whichever operator runs it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from optduel.components.core import ExperimentError
from optduel.components.kubernetes import JsonObject, Resource
from optduel.components.settings import WORKER_PORT
from optduel.components.train.cluster.settings import JobSettings, PodSettings


class Phase(Enum):
    """How far a job is, by its own word."""

    QUEUED = "queued"
    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True)
class Order:
    """A job to be made.

    Attributes:
        owners: references to the objects whose end is the job's end.
        trial: in words, for people who look at the job.
        workers: how many.
        task_file: where the workers find their task.
        seconds: the job is ended by its controller so long after its start, should the launcher be gone.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    owners: Sequence[JsonObject]
    trial: str
    settings: JobSettings
    pods: PodSettings
    workers: int
    task_file: str
    seconds: int

    @property
    def metadata(self) -> JsonObject:
        """Of the job."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "labels": dict(self.labels),
            "annotations": {"optduel.io/trial": self.trial},
            "ownerReferences": list(self.owners),
        }

    @property
    def placement(self) -> JsonObject:
        """The fields of a pod's spec that say as whom and on which nodes it runs, where they are set."""
        fields = {
            "serviceAccountName": self.settings.service_account,
            "nodeSelector": dict(self.pods.node_selector),
            "affinity": dict(self.pods.affinity or {}),
        }
        return {name: value for name, value in fields.items() if value}

    @property
    def pod_labels(self) -> dict[str, str]:
        """Of the pods: with the queue's label Kueue would take each of them for a job of its own."""
        return {name: value for name, value in self.labels.items() if name != QUEUE}


class JobKind(Protocol):
    """One operator's jobs.

    Attributes:
        title: what people call them.
        container: that trains, in every pod.
        index_label: a pod's label that tells which worker it is.
        attempt_label: a pod's label that counts the restarts of the whole group; None where there are none.
        restarts_itself: whether the operator restarts the group, so that a failed job has failed for good.
    """

    title: str
    resource: Resource
    container: str
    index_label: str
    attempt_label: str | None
    restarts_itself: bool

    def pod_selector(self, name: str) -> str:
        """Selects the pods of a job."""

    def body(self, order: Order) -> JsonObject:
        """The job, to be created."""

    def phase(self, job: JsonObject) -> tuple[Phase, str]:
        """How far a job is and, when it has failed, what its controller says."""

    def event_sources(self, name: str) -> Sequence[str]:
        """Names of the objects whose events tell why a job has no pods."""


def condition(job: JsonObject, kind: str) -> JsonObject | None:
    """The job's condition of this type, where it holds."""
    for found in job.get("status", {}).get("conditions") or []:
        if found["type"] == kind and found["status"] == "True":
            return dict(found)
    return None


def peers(hosts: Sequence[str]) -> str:
    """The value of OPTDUEL_PEERS."""
    return ",".join(f"{host}:{WORKER_PORT}" for host in hosts)


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


def trial_selector(digest: str) -> str:
    """Selects the jobs of all attempts of a task."""
    return f"{MANAGED_BY}={MANAGER},{TASK}={digest}"

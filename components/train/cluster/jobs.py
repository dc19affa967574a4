"""What a training job is to the launcher, whichever operator runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from optduel.components.kubernetes.api import JsonObject, Resource
from optduel.components.settings.deployment import WORKER_PORT
from optduel.components.train.cluster.names import QUEUE
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

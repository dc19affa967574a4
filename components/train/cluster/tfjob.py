"""TFJobs of Kubeflow's training-operator 1.9 (API kubeflow.org/v1)."""

from collections.abc import Sequence
from typing import Any

from optduel.components.core import POD_TERMINATION_LOG, TERMINATION_LOG_VARIABLE
from optduel.components.kubernetes import JsonObject, Resource
from optduel.components.settings import USER, WORKER_PORT
from optduel.components.train.cluster.jobs import Order, Phase, condition, peers
from optduel.components.train.contract.lease import LEASE_VARIABLE
from optduel.components.train.contract.task import WORKER_MODULE
from optduel.components.train.worker.group import INDEX_VARIABLE, PEERS_VARIABLE

_GRACE_SECONDS = 60
"""Longer than `compute.grace_seconds`, 12 by default."""

_LOST_NODE_SECONDS = 30
"""Five minutes by default: so long would a group wait for a lost node."""

_VOLUMES: dict[str, tuple[str, JsonObject]] = {
    "dshm": ("/dev/shm", {"medium": "Memory"}),
    "tmp": ("/tmp", {}),
    "staging": ("/staging", {}),
}
"""Mount path and kind of the folders that a worker writes; its root is read-only."""


class TFJobs:
    """A TFJob never restarts its workers together: a failure ends it, and the launcher makes the next."""

    title = "TFJob"
    resource = Resource("kubeflow.org", "v1", "tfjobs")
    container = "tensorflow"
    index_label = "training.kubeflow.org/replica-index"
    attempt_label: str | None = None
    restarts_itself = False

    def pod_selector(self, name: str) -> str:
        """Selects the pods of a job."""
        return f"training.kubeflow.org/job-name={name}"

    def event_sources(self, name: str) -> Sequence[str]:
        """The TFJob: it makes the pods itself."""
        return (name,)

    def body(self, order: Order) -> JsonObject:
        """The TFJob; what the runtime says for a TrainJob is said here."""
        labels = {
            **order.pod_labels,
            "app.kubernetes.io/name": "optduel",
            "app.kubernetes.io/component": "worker",
        }
        # A sidecar would cut the workers off from each other, and never end.
        inject = {"sidecar.istio.io/inject": "false"}
        template = {
            "metadata": {"labels": labels | inject, "annotations": dict(inject)},
            "spec": self._pod(order),
        }
        return {
            "apiVersion": f"{self.resource.group}/{self.resource.version}",
            "kind": self.title,
            "metadata": order.metadata,
            "spec": {
                "successPolicy": "AllWorkers",
                "runPolicy": {
                    "backoffLimit": 0,
                    "cleanPodPolicy": "Running",
                    "activeDeadlineSeconds": order.seconds,
                    "ttlSecondsAfterFinished": order.settings.kept_seconds,
                },
                "tfReplicaSpecs": {
                    "Worker": {"replicas": order.workers, "restartPolicy": "Never", "template": template}
                },
            },
        }

    def phase(self, job: JsonObject) -> tuple[Phase, str]:
        """How far a job is; Suspended means that a queue holds it."""
        if failed := condition(job, "Failed"):
            return Phase.FAILED, str(failed.get("message", ""))
        if condition(job, "Succeeded"):
            return Phase.COMPLETE, ""
        is_held = job["spec"].get("runPolicy", {}).get("suspend") or condition(job, "Suspended")
        return (Phase.QUEUED if is_held else Phase.ACTIVE), ""

    def _pod(self, order: Order) -> JsonObject:
        pods = order.pods
        folders = [{"name": name, "emptyDir": dict(kind)} for name, (_, kind) in _VOLUMES.items()]
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "tolerations": [
                *(
                    {
                        "key": f"node.kubernetes.io/{state}",
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": _LOST_NODE_SECONDS,
                    }
                    for state in ("unreachable", "not-ready")
                ),
                *map(dict, pods.tolerations),
            ],
            "containers": [self._container(order)],
            "volumes": folders + [dict(volume) for volume in pods.volumes],
        }
        return spec | order.placement

    def _container(self, order: Order) -> JsonObject:
        pods = order.pods
        own = {
            TERMINATION_LOG_VARIABLE: POD_TERMINATION_LOG,
            "OPTDUEL_STAGING": "/staging",
            "HOME": "/tmp",
            LEASE_VARIABLE: f"{order.settings.unfollowed_seconds:g}",
        }
        if order.workers > 1:
            hosts = [f"{order.name}-worker-{index}.{order.namespace}.svc" for index in range(order.workers)]
            own[PEERS_VARIABLE] = peers(hosts)
        index = {"fieldRef": {"fieldPath": f"metadata.labels['{self.index_label}']"}}
        mounts = [{"name": name, "mountPath": path} for name, (path, _) in _VOLUMES.items()]
        container: dict[str, Any] = {
            "name": self.container,
            "image": order.settings.image,
            "command": ["python3", "-P", "-m", WORKER_MODULE],
            "args": [order.task_file],
            "ports": [{"name": "tfjob-port", "containerPort": WORKER_PORT}],
            "env": [*pods.environment(own), {"name": INDEX_VARIABLE, "valueFrom": index}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts + [dict(mount) for mount in pods.volume_mounts],
        }
        if pods.resources:
            container["resources"] = dict(pods.resources)
        return container

"""TrainJobs of Kubeflow Trainer, 2.2 or newer (API trainer.kubeflow.org/v1alpha1)."""

from collections.abc import Sequence
from typing import Any

from optduel.components.core import SetupError
from optduel.components.kubernetes import Api, ApiFailure, JsonObject, NotFound, Resource, refused
from optduel.components.train.cluster.jobs import Order, Phase, condition, peers
from optduel.components.train.contract.lease import LEASE_VARIABLE
from optduel.components.train.worker.group import PEERS_VARIABLE

_RUNTIMES = Resource("trainer.kubeflow.org", "v1alpha1", "clustertrainingruntimes", is_namespaced=False)
_PATCH_MANAGER = "optduel.io/launcher"
_REPLICATED_JOB = "node"
_FORBIDDEN = 403


class TrainJobs:
    """A TrainJob's group is restarted by its runtime; one that has failed has failed for good.

    Args:
        tolerations: the runtime's own: a patch of this list replaces it.
    """

    title = "TrainJob"
    resource = Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs")
    container = "node"
    index_label = "batch.kubernetes.io/job-completion-index"
    attempt_label: str | None = "jobset.sigs.k8s.io/restart-attempt"
    restarts_itself = True

    def __init__(self, tolerations: Sequence[JsonObject]) -> None:
        self._tolerations = tolerations

    def pod_selector(self, name: str) -> str:
        """Selects the pods of a job."""
        return f"jobset.sigs.k8s.io/jobset-name={name}"

    def event_sources(self, name: str) -> Sequence[str]:
        """The TrainJob, its JobSet of the same name, and the Job that this makes."""
        return name, f"{name}-{_REPLICATED_JOB}-0"

    def body(self, order: Order) -> JsonObject:
        """The TrainJob.

        Its runtime knows command, volumes, security and restarts; the trainer's fields go to the container
        `node`, all other settings of pods into a patch of the runtime.
        """
        hosts = [
            f"{order.name}-{_REPLICATED_JOB}-0-{index}.{order.name}.{order.namespace}.svc"
            for index in range(order.workers)
        ]
        own = {PEERS_VARIABLE: peers(hosts)} if order.workers > 1 else {}
        own[LEASE_VARIABLE] = f"{order.settings.unfollowed_seconds:g}"
        trainer: dict[str, Any] = {
            "image": order.settings.image,
            "args": [order.task_file],
            "numNodes": order.workers,
            "env": order.pods.environment(own),
        }
        if order.pods.resources:
            trainer["resourcesPerNode"] = dict(order.pods.resources)
        return {
            "apiVersion": f"{self.resource.group}/{self.resource.version}",
            "kind": self.title,
            "metadata": order.metadata,
            "spec": {
                "runtimeRef": {
                    "apiGroup": self.resource.group,
                    "kind": "ClusterTrainingRuntime",
                    "name": order.settings.runtime,
                },
                "activeDeadlineSeconds": order.seconds,
                "trainer": trainer,
                "runtimePatches": [self._patch(order)],
            },
        }

    def phase(self, job: JsonObject) -> tuple[Phase, str]:
        """How far a job is; Suspended means that a queue holds it."""
        if failed := condition(job, "Failed"):
            return Phase.FAILED, f"{failed.get('reason', '')}: {failed.get('message', '')}".strip(": ")
        if condition(job, "Complete"):
            return Phase.COMPLETE, ""
        is_held = job["spec"].get("suspend") or condition(job, "Suspended")
        return (Phase.QUEUED if is_held else Phase.ACTIVE), ""

    def _patch(self, order: Order) -> JsonObject:
        pods = order.pods
        spec = order.placement
        if pods.tolerations:
            spec["tolerations"] = [*self._tolerations, *map(dict, pods.tolerations)]
        if pods.volumes:
            spec["volumes"] = [dict(volume) for volume in pods.volumes]
        if pods.volume_mounts:
            mounts = [dict(mount) for mount in pods.volume_mounts]
            spec["containers"] = [{"name": self.container, "volumeMounts": mounts}]
        template: dict[str, Any] = {"metadata": {"labels": order.pod_labels}}
        if spec:
            template["spec"] = spec
        replicated = {"name": _REPLICATED_JOB, "template": {"spec": {"template": template}}}
        return {
            "manager": _PATCH_MANAGER,
            "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}},
        }


def trainjobs(api: Api, runtime: str) -> TrainJobs:
    """TrainJobs of a runtime that is installed.

    Args:
        runtime: name of a ClusterTrainingRuntime.

    Raises:
        SetupError: there is none of this name, or it may not be read.
    """
    try:
        found = api.get(_RUNTIMES, runtime)
    except NotFound as error:
        raise SetupError(
            f"job.runtime = {runtime}: the cluster has no ClusterTrainingRuntime of this name; install "
            "Kubeflow Trainer 2.2 or newer and apply optduel's manifests (see `optduel doctor`)"
        ) from error
    except ApiFailure as error:
        if error.code != _FORBIDDEN:
            raise refused(f"job.runtime = {runtime}", error) from error
        raise SetupError(
            f"job.runtime = {runtime}: {error.message}; apply optduel's manifests, and add a runtime of your "
            "own to the resourceNames of ClusterRole optduel-runtime-reader"
        ) from error
    try:
        (node,) = (
            one
            for one in found["spec"]["template"]["spec"]["replicatedJobs"]
            if one["name"] == _REPLICATED_JOB
        )
        pod = node["template"]["spec"]["template"]["spec"]
    except (KeyError, ValueError) as error:
        raise SetupError(
            f"job.runtime = {runtime}: is not a runtime for optduel: it has no replicated job "
            f"{_REPLICATED_JOB!r}; use tensorflow-distributed or a copy of it"
        ) from error
    return TrainJobs(pod.get("tolerations") or [])

"""What the test's API refuses of a new object: unknown fields, and what Trainer's webhook does not admit."""

import re
from typing import TYPE_CHECKING, Any

import kubeflow_trainer_api.models as trainer

from tests.cluster.kubernetes_objects import ApiError, Object, Resource

if TYPE_CHECKING:
    from tests.cluster.kubernetes_server import KubernetesServer

_MODELS: dict[str, Any] = {
    "TrainJob": trainer.TrainerV1alpha1TrainJob,
    "TrainingRuntime": trainer.TrainerV1alpha1TrainingRuntime,
    "ClusterTrainingRuntime": trainer.TrainerV1alpha1ClusterTrainingRuntime,
}

_TFJOB_FIELDS = {
    "spec": {"runPolicy", "successPolicy", "tfReplicaSpecs", "enableDynamicWorker"},
    "spec.runPolicy": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "cleanPodPolicy",
        "managedBy",
        "schedulingPolicy",
        "suspend",
        "ttlSecondsAfterFinished",
    },
    "spec.tfReplicaSpecs": {"Chief", "Worker", "PS", "Evaluator", "Master"},
    "spec.tfReplicaSpecs.Worker": {"replicas", "restartPolicy", "template"},
}
"""Of training-operator 1.9; a template is a pod's, as every workload has it."""


def review(server: "KubernetesServer", resource: Resource, body: Object, query: dict[str, str]) -> None:
    """Raises ApiError 400 for unknown fields in a strict request, and 403 for what the webhooks deny."""
    if query.get("fieldValidation") == "Strict" and (unknown := sorted(_unknown(server, resource, body))):
        told = ", ".join(f'unknown field "{path}"' for path in unknown)
        version = f"{resource.api_version}, Kind={resource.kind}"
        raise ApiError(
            400, "BadRequest", f'{resource.kind} in version "{version}": strict decoding error: {told}'
        )
    if resource.kind == "TrainJob":
        _admit_trainjob(server, body)


def _unknown(server: "KubernetesServer", resource: Resource, body: Object) -> set[str]:
    missing = server.missing_fields.get(resource.kind, set())
    return unknown_fields(resource, body) | {f"spec.{name}" for name in missing & body["spec"].keys()}


def unknown_fields(resource: Resource, body: Object) -> set[str]:
    """Paths of the fields that the published models do not have; of kinds without a model, none."""
    if model := _MODELS.get(resource.kind):
        return set(_lost(body, model.from_dict(body).to_dict(), ""))
    if resource.kind == "TFJob":
        pod = trainer.IoK8sApiCoreV1PodTemplateSpec
        template = body["spec"]["tfReplicaSpecs"]["Worker"]["template"]
        path = "spec.tfReplicaSpecs.Worker.template."
        lost = set(_lost(template, pod.from_dict(template).to_dict(), path))
        for parent, known in _TFJOB_FIELDS.items():
            here: Any = body
            for part in parent.split("."):
                here = here.get(part, {})
            lost |= {f"{parent}.{name}" for name in here.keys() - known}
        return lost
    return set()


def _lost(given: Any, kept: Any, path: str) -> list[str]:
    """Where `kept`, what a model made of `given`, has less."""
    if isinstance(given, dict):
        missing = [f"{path}{key}" for key in given if not isinstance(kept, dict) or key not in kept]
        inner = [
            _lost(given[key], kept[key], f"{path}{key}.")
            for key in given
            if not isinstance(kept, dict) or key in kept
        ]
        return missing + [one for found in inner for one in found]
    if isinstance(given, list):
        pairs = enumerate(zip(given, kept, strict=True))
        return [one for index, (left, right) in pairs for one in _lost(left, right, f"{path[:-1]}[{index}].")]
    return []


def _admit_trainjob(server: "KubernetesServer", body: Object) -> None:
    problems = []
    spec = body["spec"]
    name = body["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63:
        problems.append(f'metadata.name: Invalid value: "{name}": must match RFC 1035')
    runtime = spec["runtimeRef"]["name"]
    known = [one["metadata"]["name"] for one in server.find("clustertrainingruntimes")]
    if runtime not in known:
        told = f'ClusterTrainingRuntime.trainer.kubeflow.org "{runtime}" not found'
        problems.append(f"spec.runtimeRef: Invalid value: {told}: specified runtime must be created before")
    for patch in spec.get("runtimePatches", []):
        if "/" not in patch["manager"]:
            problems.append(f"spec.runtimePatches: {patch['manager']}: must be a domain-prefixed path")
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            pod = job["template"]["spec"]["template"].get("spec", {})
            if any(one["name"] == "node" and one.get("env") for one in pod.get("containers", [])):
                problems.append("spec.runtimePatches: must not have env for the node container")
    if problems:
        webhook = "validator.trainjob.trainer.kubeflow.org"
        raise ApiError(
            403, "Forbidden", f'admission webhook "{webhook}" denied the request: {"; ".join(problems)}'
        )

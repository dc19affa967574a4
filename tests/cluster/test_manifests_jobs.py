"""The jobs that the launcher makes fit the manifests."""

from collections.abc import Mapping

import kubernetes_validate
from kubeflow_trainer_api import models

from optduel.components.settings import validate
from optduel.components.train.cluster.jobs import Order, labels
from optduel.components.train.cluster.settings import JobSettings, pod_settings
from optduel.components.train.cluster.tfjob import TFJobs
from optduel.components.train.cluster.trainjob import TrainJobs
from optduel.pipeline.cli.shipped import load_deployment
from tests.cluster.kustomize import Object, find, needs_kubectl, overlay, runtime_job
from tests.cluster.pod_security import restricted_violations

pytestmark = needs_kubectl

RESOURCES = {
    "requests": {"cpu": "4", "memory": "16Gi"},
    "limits": {"memory": "16Gi", "nvidia.com/gpu": "1"},
}


def order(name: str) -> Order:
    """Two workers of a shipped deployment, placed as Kubeflow Pipelines places them."""
    job = load_deployment(name, ["image=optduel@sha256:0"]).job
    assert job is not None
    task_config = {
        "resources": RESOURCES,
        "env": [
            {
                "name": "AWS_ACCESS_KEY_ID",
                "valueFrom": {"secretKeyRef": {"name": "store", "key": "accesskey"}},
            }
        ],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "node_selector": {"cloud.google.com/gke-accelerator": "nvidia-l4"},
    }
    return Order(
        name="optduel-0123456789abcdef-0",
        namespace="kubeflow",
        labels=labels("run", "0123456789abcdef", "optduel"),
        owners=[],
        trial="adamw, seed 1",
        settings=validate(JobSettings, {**job.model_dump(), "image": "optduel@sha256:0"}, "job"),
        pods=pod_settings(task_config),
        workers=2,
        task_file="s3://bucket/task.json",
        seconds=3600,
    )


def trainjob() -> Object:
    tolerations = runtime_job(overlay("gke"))["template"]["spec"]["tolerations"]
    return TrainJobs(tolerations).body(order("trainjob"))


def tfjob_template() -> Object:
    template = TFJobs().body(order("tfjob"))["spec"]["tfReplicaSpecs"]["Worker"]["template"]
    assert isinstance(template, dict)
    return template


def selected(policy: Object, pod_labels: Mapping[str, str]) -> bool:
    return bool(policy["spec"]["podSelector"]["matchLabels"].items() <= pod_labels.items())


def test_trainer_knows_every_field_of_a_trainjob() -> None:
    body = trainjob()
    model = models.TrainerV1alpha1TrainJob.from_dict(body)
    assert model is not None
    assert model.to_dict() == body


def test_trainjob_names_the_runtime_of_the_manifests() -> None:
    reference = trainjob()["spec"]["runtimeRef"]
    runtime = find(overlay("gke"), reference["kind"], reference["name"])
    assert runtime["apiVersion"].partition("/")[0] == reference["apiGroup"]


def test_trainjobs_resources_fit_those_of_the_runtime() -> None:
    runtime = runtime_job(overlay("gke"))["template"]["spec"]["containers"][0]["resources"]
    own = trainjob()["spec"]["trainer"]["resourcesPerNode"]
    merged = {kind: {**runtime[kind], **own.get(kind, {})} for kind in ("requests", "limits")}
    assert merged["requests"]["memory"] == merged["limits"]["memory"] == "16Gi"
    assert "cpu" not in merged["limits"]


def test_trainjobs_patch_keeps_what_makes_pods_secure() -> None:
    (patch,) = trainjob()["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template = job["template"]["spec"]["template"]
    assert template["spec"].keys() == {"nodeSelector", "tolerations"}
    assert template["metadata"].keys() == {"labels"}
    assert not template["metadata"]["labels"].keys() & {
        "app.kubernetes.io/name",
        "app.kubernetes.io/component",
        "sidecar.istio.io/inject",
    }


def test_tfjobs_pods_are_restricted_and_valid() -> None:
    template = tfjob_template()
    assert restricted_violations(template) == []
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, "1.37", strict=True)


def test_policies_hold_for_tfjobs_too() -> None:
    policies = [one for one in overlay("kind") if one["kind"] == "NetworkPolicy"]
    template = tfjob_template()
    assert [selected(policy, template["metadata"]["labels"]) for policy in policies] == [True, True]
    assert template["spec"]["containers"][0]["ports"][0]["containerPort"] == 2222

"""The manifests render, and their parts fit together."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cluster.kustomize import (
    MANIFESTS,
    OVERLAYS,
    find,
    needs_kubectl,
    overlay,
    render,
    render_with,
    runtime_job,
)

pytestmark = needs_kubectl

NAMESPACES = {"kind": "kubeflow", "gke": "kubeflow", "generic": "team-a"}
STEPS_ACCOUNTS = {"kind": "pipeline-runner", "gke": "pipeline-runner", "generic": "default-editor"}
"""Not ours: made by Kubeflow Pipelines, and by Kubeflow for a profile."""

STORAGE_COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").glob("storage-*"))


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_has_every_part_once(name: str) -> None:
    assert sorted((one["kind"], one["metadata"]["name"]) for one in overlay(name)) == [
        ("ClusterRole", "optduel-runtime-reader"),
        ("ClusterRoleBinding", "optduel-runtime-reader"),
        ("ClusterTrainingRuntime", "tensorflow-distributed"),
        ("NetworkPolicy", "optduel-worker"),
        ("NetworkPolicy", "optduel-worker-storage"),
        ("Role", "optduel-launcher"),
        ("RoleBinding", "optduel-launcher"),
        ("ServiceAccount", "optduel-worker"),
    ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_names_the_namespace_of_all_that_is_not_the_clusters(name: str) -> None:
    for one in overlay(name):
        expected = None if one["kind"].startswith("Cluster") else NAMESPACES[name]
        assert one["metadata"].get("namespace") == expected, one["kind"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_another_namespace_is_one_line(name: str, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    place = tmp_path / "manifests" / "overlays" / name / "namespace" / "namespace.yaml"
    line = f"  namespace: {NAMESPACES[name]}\n"
    assert place.read_text().count(line) == 1
    place.write_text(place.read_text().replace(line, "  namespace: elsewhere\n"))
    moved = render(tmp_path / "manifests" / "overlays" / name)
    assert {one["metadata"].get("namespace") for one in moved} == {None, "elsewhere"}
    (subject,) = find(moved, "RoleBinding", "optduel-launcher")["subjects"]
    assert subject["namespace"] == "elsewhere"


@pytest.mark.parametrize("name", OVERLAYS)
def test_binding_names_a_role_of_the_overlay_and_the_steps_account(name: str) -> None:
    objects = overlay(name)
    binding = find(objects, "RoleBinding", "optduel-launcher")
    assert find(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": STEPS_ACCOUNTS[name], "namespace": NAMESPACES[name]}
    ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_workers_run_as_an_account_of_the_overlay_without_rights(name: str) -> None:
    objects = overlay(name)
    account = runtime_job(objects)["template"]["spec"]["serviceAccountName"]
    assert find(objects, "ServiceAccount", account)["automountServiceAccountToken"] is False
    subjects = [subject["name"] for one in objects for subject in one.get("subjects", [])]
    assert account not in subjects


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_service_account_may_read_the_runtime_and_no_other(name: str) -> None:
    objects = overlay(name)
    runtime = next(one for one in objects if one["kind"] == "ClusterTrainingRuntime")
    binding = find(objects, "ClusterRoleBinding", "optduel-runtime-reader")
    (rule,) = find(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])["rules"]
    assert rule == {
        "apiGroups": [runtime["apiVersion"].partition("/")[0]],
        "resources": ["clustertrainingruntimes"],
        "resourceNames": [runtime["metadata"]["name"]],
        "verbs": ["get"],
    }
    assert [(one["kind"], one["name"]) for one in binding["subjects"]] == [("Group", "system:authenticated")]


@pytest.mark.parametrize("name", OVERLAYS)
def test_objects_say_what_they_belong_to(name: str) -> None:
    for one in overlay(name):
        labels = one["metadata"]["labels"]
        assert (labels["app.kubernetes.io/name"], labels["app.kubernetes.io/part-of"]) == (
            "optduel",
            "optduel",
        )


def test_gpu_overlays_tolerate_gpu_nodes_and_share_more_memory() -> None:
    for name in ("gke", "generic"):
        pod = runtime_job(overlay(name))["template"]["spec"]
        assert "nvidia.com/gpu" in {toleration["key"] for toleration in pod["tolerations"]}
        shared = next(volume for volume in pod["volumes"] if volume["name"] == "dshm")
        assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
        assert {"name": "NCCL_DEBUG", "value": "WARN"} in pod["containers"][0]["env"]


def test_gke_overlay_selects_accelerators_and_binds_an_identity() -> None:
    objects = overlay("gke")
    selector = runtime_job(objects)["template"]["spec"]["nodeSelector"]
    assert selector == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    annotations = find(objects, "ServiceAccount", "optduel-worker")["metadata"]["annotations"]
    assert annotations.keys() == {"iam.gke.io/gcp-service-account"}


def test_kueue_component_adds_a_queue(tmp_path: Path) -> None:
    (queue,) = render_with(tmp_path, [], ["kueue"])
    assert (queue["apiVersion"], queue["kind"]) == ("kueue.x-k8s.io/v1beta2", "LocalQueue")
    assert queue["spec"] == {"clusterQueue": "optduel"}


def test_tfjob_component_adds_only_the_rights_on_tfjobs(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "tfjob").mkdir()
    base = MANIFESTS / "base" / "namespace"
    plain = find(render_with(tmp_path / "plain", [base], []), "Role", "optduel-launcher")["rules"]
    rules = find(render_with(tmp_path / "tfjob", [base], ["tfjob"]), "Role", "optduel-launcher")["rules"]
    (added,) = (rule for rule in rules if rule not in plain)
    assert len(rules) == len(plain) + 1
    assert (added["apiGroups"], added["resources"]) == (["kubeflow.org"], ["tfjobs"])
    assert added["verbs"] == plain[0]["verbs"]


def test_retry_policy_component_changes_kubeflows_api_server_and_keeps_its_settings(tmp_path: Path) -> None:
    environment = [
        {"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": "{}"},
        {"name": "OTHER", "value": "kept"},
    ]
    container = {"name": "ml-pipeline-api-server", "image": "kfp:2.17.0", "env": environment}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "ml-pipeline"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    (tmp_path / "kubeflow.yaml").write_text(yaml.safe_dump(deployment))
    (changed,) = render_with(tmp_path, [tmp_path / "kubeflow.yaml"], ["retry-policy"])
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    assert len(values) == len(container["env"])
    assert values["OTHER"] == "kept"
    assert json.loads(values["COMPILED_PIPELINE_SPEC_PATCH"]).keys() == {"templateDefaults"}


@pytest.mark.parametrize("name", STORAGE_COMPONENTS)
def test_storage_component_opens_a_way_to_the_store_and_holds_no_key(name: str, tmp_path: Path) -> None:
    objects = render_with(tmp_path, [], [name])
    assert find(objects, "NetworkPolicy", "optduel-worker-storage")["spec"]["egress"]
    for one in objects:
        if one["kind"] == "ConfigMap":
            assert one["metadata"]["name"] == "kfp-launcher"
            scheme = one["data"]["defaultPipelineRoot"].partition("://")[0]
            credentials = yaml.safe_load(one["data"]["providers"])[scheme]["default"]["credentials"]
            assert credentials.keys() == {"fromEnv", "secretRef"}

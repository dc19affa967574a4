"""Every pod, role and secret of the manifests keeps the policy, and its check notices what does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kustomize import (
    MANIFESTS,
    OVERLAYS,
    Object,
    find,
    needs_kubectl,
    overlay,
    render_with,
    runtime_job,
)
from tests.cluster.manifest_policy import violations

pytestmark = needs_kubectl

COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir() if path.name != "retry-policy")


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_keeps_the_policy(name: str) -> None:
    assert violations(overlay(name)) == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_keeps_the_policy(name: str, tmp_path: Path) -> None:
    resources = [MANIFESTS / "overlays" / "kind"]
    if name.startswith("storage-"):
        resources = [MANIFESTS / "base" / "namespace"]
    assert violations(render_with(tmp_path, resources, [name])) == []


def test_base_alone_lacks_only_the_tag_that_an_overlay_sets(tmp_path: Path) -> None:
    objects = render_with(tmp_path, [MANIFESTS / "base" / "runtime", MANIFESTS / "base" / "namespace"], [])
    assert violations(objects) == [
        "ClusterTrainingRuntime tensorflow-distributed: node: image optduel has no tag, or one that moves"
    ]


def pod_context(spec: Object) -> Object:
    return spec["securityContext"]  # type: ignore[no-any-return]


def context(spec: Object) -> Object:
    return spec["containers"][0]["securityContext"]  # type: ignore[no-any-return]


def container(spec: Object) -> Object:
    return spec["containers"][0]  # type: ignore[no-any-return]


def with_init_container(spec: Object) -> None:
    spec["initContainers"] = [json.loads(json.dumps(container(spec)))]
    del spec["initContainers"][0]["securityContext"]["allowPrivilegeEscalation"]


def without_root_rule(spec: Object) -> None:
    del pod_context(spec)["runAsNonRoot"]


BREAKAGES: list[tuple[str, Callable[[Object], Any]]] = [
    ("hostNetwork", lambda spec: spec.update(hostNetwork=True)),
    ("hostPID", lambda spec: spec.update(hostPID=True)),
    ("hostIPC", lambda spec: spec.update(hostIPC=True)),
    (
        "volume host: hostPath",
        lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    ),
    (
        "volume nfs: nfs",
        lambda spec: spec["volumes"].append({"name": "nfs", "nfs": {"server": "a", "path": "/"}}),
    ),
    ("volume tmp: no size limit", lambda spec: spec["volumes"][1].update(emptyDir={})),
    ("sysctl kernel.msgmax", lambda spec: pod_context(spec).update(sysctls=[{"name": "kernel.msgmax"}])),
    ("pod: seccompProfile", lambda spec: pod_context(spec).update(seccompProfile={"type": "Unconfined"})),
    ("node: no seccomp profile", lambda spec: pod_context(spec).pop("seccompProfile")),
    ("node: may run as root", without_root_rule),
    ("node: may run as root", lambda spec: context(spec).update(runAsNonRoot=False)),
    ("pod: runs as root", lambda spec: pod_context(spec).update(runAsUser=0)),
    ("node: runs as root", lambda spec: context(spec).update(runAsUser=0)),
    ("pod: hostProcess", lambda spec: pod_context(spec).update(windowsOptions={"hostProcess": True})),
    ("pod: seLinuxOptions", lambda spec: pod_context(spec).update(seLinuxOptions={"type": "spc_t"})),
    ("node: seLinuxOptions", lambda spec: context(spec).update(seLinuxOptions={"user": "system_u"})),
    ("node: appArmorProfile", lambda spec: context(spec).update(appArmorProfile={"type": "Unconfined"})),
    ("node: privileged", lambda spec: context(spec).update(privileged=True)),
    ("node: allowPrivilegeEscalation", lambda spec: context(spec).pop("allowPrivilegeEscalation")),
    ("node: allowPrivilegeEscalation", with_init_container),
    ("node: capabilities are not dropped", lambda spec: context(spec).pop("capabilities")),
    ("node: capabilities are added", lambda spec: context(spec)["capabilities"].update(add=["IPC_LOCK"])),
    ("node: procMount", lambda spec: context(spec).update(procMount="Unmasked")),
    ("node: the root file system", lambda spec: context(spec).pop("readOnlyRootFilesystem")),
    ("node: hostPort", lambda spec: container(spec)["ports"][0].update(hostPort=2222)),
    (
        "node: host of a probe or hook",
        lambda spec: container(spec).update(livenessProbe={"tcpSocket": {"host": "192.0.2.1", "port": 80}}),
    ),
    ("token is mounted", lambda spec: spec.pop("automountServiceAccountToken")),
    ("node: requests no cpu", lambda spec: container(spec)["resources"]["requests"].pop("cpu")),
    ("node: requests no memory", lambda spec: container(spec).pop("resources")),
    ("node: memory has no limit", lambda spec: container(spec)["resources"].pop("limits")),
    ("no tag, or one that moves", lambda spec: container(spec).update(image="registry:5000/optduel")),
    ("no tag, or one that moves", lambda spec: container(spec).update(image="optduel:latest")),
    (
        "node: AWS_SECRET_ACCESS_KEY holds a secret's value",
        lambda spec: container(spec)["env"].append({"name": "AWS_SECRET_ACCESS_KEY", "value": "abc"}),
    ),
]


@pytest.mark.parametrize(("phrase", "breakage"), BREAKAGES)
def test_broken_pod_is_noticed(phrase: str, breakage: Callable[[Object], Any]) -> None:
    objects = overlay("gke")
    breakage(runtime_job(objects)["template"]["spec"])
    assert any(phrase in found for found in violations(objects)), violations(objects)


@pytest.mark.parametrize("image", ["optduel@sha256:" + "0" * 64, "registry:5000/optduel:0.1.0-gpu"])
def test_pinned_image_keeps_the_policy(image: str) -> None:
    objects = overlay("kind")
    runtime_job(objects)["template"]["spec"]["containers"][0]["image"] = image
    assert violations(objects) == []


def test_annotation_without_apparmor_is_noticed() -> None:
    objects = overlay("kind")
    name = "container.apparmor.security.beta.kubernetes.io/node"
    runtime_job(objects)["template"]["metadata"]["annotations"] = {name: "unconfined"}
    assert len(violations(objects)) == 1


@pytest.mark.parametrize("field", ["apiGroups", "resources", "verbs"])
def test_wildcard_is_noticed(field: str) -> None:
    objects = overlay("kind")
    find(objects, "Role", "optduel-launcher")["rules"][0][field] = ["*"]
    assert violations(objects) == [f"Role optduel-launcher: wildcard in {field}"]


@pytest.mark.parametrize(
    "breakage", [lambda rule: rule["verbs"].append("list"), lambda rule: rule.pop("resourceNames")]
)
def test_rights_in_every_namespace_are_noticed(breakage: Callable[[Object], Any]) -> None:
    objects = overlay("kind")
    breakage(find(objects, "ClusterRole", "optduel-runtime-reader")["rules"][0])
    assert len(violations(objects)) == 1


def test_value_of_a_secret_is_noticed() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-credentials"}}
    assert violations([secret]) == []
    assert violations([{**secret, "stringData": {"accesskey": "abc"}}]) == [
        "Secret s3-credentials: holds a secret's value"
    ]

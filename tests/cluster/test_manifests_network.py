"""Workers reach each other, the name server and their store; nobody else reaches them."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kustomize import (
    MANIFESTS,
    OVERLAYS,
    Object,
    needs_kubectl,
    overlay,
    render_with,
    runtime_job,
)

pytestmark = needs_kubectl


def selects(selector: Object, labels: Object) -> bool:
    """As Kubernetes evaluates the label selectors that the manifests use."""
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def covers(port: Object, protocol: str, number: int) -> bool:
    first: int = port["port"]
    last: int = port.get("endPort", first)
    return bool(port["protocol"] == protocol and first <= number <= last)


def is_peer(peer: Object, other: Object) -> bool:
    """Whether `other` is meant: {"pod": labels} of this namespace, {"namespace": name} or {"address": IP}."""
    if "ipBlock" in peer:
        return bool(peer["ipBlock"]["cidr"] == f"{other.get('address')}/32")
    if "namespaceSelector" in peer:
        return selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.get("namespace")})
    return "pod" in other and selects(peer["podSelector"], other["pod"])


def allowed(objects: list[Object], direction: str, other: Object, number: int, protocol: str = "TCP") -> bool:
    """Whether a worker may talk in that direction, "ingress" or "egress"."""
    worker = worker_labels()
    policies = [
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy"
        and direction.capitalize() in one["spec"]["policyTypes"]
        and selects(one["spec"]["podSelector"], worker)
    ]
    assert policies, "an unselected pod may do anything"
    peers = "from" if direction == "ingress" else "to"
    return any(
        any(covers(port, protocol, number) for port in rule["ports"])
        and (peers not in rule or any(is_peer(peer, other) for peer in rule[peers]))
        for policy in policies
        for rule in policy.get(direction, [])
    )


def worker_labels() -> dict[str, Any]:
    return dict(runtime_job(overlay("kind"))["template"]["metadata"]["labels"])


STRANGER = {"pod": {"app": "stranger"}}
ELSEWHERE = {"address": "192.0.2.1"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_workers_reach_each_other_and_nobody_else_reaches_them(name: str) -> None:
    objects, worker = overlay(name), {"pod": worker_labels()}
    (container,) = runtime_job(objects)["template"]["spec"]["containers"]
    port = container["ports"][0]["containerPort"]
    assert port == 2222  # in the addresses that the launcher computes
    for direction in ("ingress", "egress"):
        assert allowed(objects, direction, worker, port)
        assert not allowed(objects, direction, STRANGER, port)
    assert not allowed(objects, "ingress", ELSEWHERE, port)
    assert not allowed(objects, "ingress", {"namespace": "kubeflow"}, port)


@pytest.mark.parametrize(("name", "is_open"), [("kind", False), ("gke", True), ("generic", True)])
def test_nccl_finds_ephemeral_ports_open_where_there_are_gpus(name: str, is_open: bool) -> None:
    objects, worker = overlay(name), {"pod": worker_labels()}
    for direction in ("ingress", "egress"):
        assert allowed(objects, direction, worker, 43210) is is_open
        assert not allowed(objects, direction, STRANGER, 43210)
    assert not allowed(objects, "ingress", worker, 22)


@pytest.mark.parametrize("name", OVERLAYS)
def test_names_can_be_resolved(name: str) -> None:
    assert all(allowed(overlay(name), "egress", ELSEWHERE, 53, protocol) for protocol in ("UDP", "TCP"))


@pytest.mark.parametrize("name", ["kind", "generic"])
def test_kubeflows_store_is_all_that_workers_reach(name: str) -> None:
    objects = overlay(name)
    assert allowed(objects, "egress", {"namespace": "kubeflow"}, 8333)
    assert not allowed(objects, "egress", {"namespace": "kubeflow"}, 8888)
    assert not allowed(objects, "egress", {"namespace": "other"}, 8333)
    assert not allowed(objects, "egress", ELSEWHERE, 443)


def test_cloud_storage_and_its_tokens_are_all_that_workers_reach_on_gke() -> None:
    objects = overlay("gke")
    assert allowed(objects, "egress", ELSEWHERE, 443)
    assert allowed(objects, "egress", {"address": "169.254.169.252"}, 988)
    assert allowed(objects, "egress", {"address": "169.254.169.254"}, 80)
    assert not allowed(objects, "egress", ELSEWHERE, 80)


@pytest.mark.parametrize(
    ("name", "store", "port"),
    [("storage-s3", ELSEWHERE, 443), ("storage-minio", {"namespace": "minio"}, 9000)],
)
def test_storage_component_adds_the_way_to_its_store(
    name: str, store: Object, port: int, tmp_path: Path
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    base = [MANIFESTS / "base" / "namespace"]
    assert not allowed(render_with(tmp_path / "without", base, []), "egress", store, port)
    assert allowed(render_with(tmp_path / "with", base, [name]), "egress", store, port)

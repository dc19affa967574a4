"""The one client of the Kubernetes API: lists in pages, requests in somebody's place, bounded time."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.core import ClusterError, SetupError, StopRequest
from optduel.components.kubernetes import PODS, Api, Forbidden, Timing, connect
from tests.cluster.kubernetes_objects import ApiError
from tests.cluster.kubernetes_server import KubernetesServer

ONCE = Timing(answer=5.0, away=0.0, refusal=0.0)


@pytest.fixture
def api(server: KubernetesServer) -> Api:
    server.granted = None
    return connect(ONCE, StopRequest(), remedy="look")


def test_a_list_comes_in_pages(server: KubernetesServer, api: Api) -> None:
    names = [f"pod-{number:04}" for number in range(1203)]
    for name in names:
        server.add("pods", {"metadata": {"name": name, "labels": {"its": "mine"}}})
    server.add("pods", {"metadata": {"name": "another"}})
    found = api.find(PODS, labels="its=mine")
    assert [one["metadata"]["name"] for one in found] == names
    lists = [request for request in server.requests if request.verb == "list"]
    assert [request.query.get("continue") for request in lists] == [None, "500", "1000"]


def test_without_patience_a_request_is_made_once(server: KubernetesServer, api: Api) -> None:
    server.fail(ApiError(503, "ServiceUnavailable", "etcd leader changed"), resource="pods")
    with pytest.raises(ClusterError, match=r"no answer \(HTTP 503: etcd leader changed\); look"):
        api.find(PODS)
    assert len(server.requests) == 1


def test_a_refusal_is_told_at_once_also_of_what_was_allowed_in_another_s_place(
    server: KubernetesServer, api: Api
) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {"spec": {"resourceAttributes": {"verb": "get", "group": "", "resource": "pods"}}}
    assert api.ask(path, body)["status"]["allowed"] is True
    server.denied = {("impersonate", "", "users", "")}
    with pytest.raises(Forbidden, match='cannot impersonate resource "users"'):
        api.ask(path, body, user="jane")


def absent(file: Path) -> None:
    file.unlink()


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def no_yaml(file: Path) -> None:
    file.write_text("a: [")


def no_context(file: Path) -> None:
    file.write_text(file.read_text().replace('"current-context": "double"', '"current-context": "other"'))


@pytest.mark.parametrize("spoil", [absent, a_folder, no_yaml, no_context])
def test_a_kubeconfig_that_does_not_serve_is_one_message(
    server: KubernetesServer, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "kubeconfig")
    with pytest.raises(SetupError, match="Kubernetes: no access: .* set KUBECONFIG or --kube-context"):
        connect(ONCE, StopRequest(), remedy="look")


def test_a_silent_server_is_given_up_in_time(server: KubernetesServer) -> None:
    api = connect(Timing(answer=0.2, away=0.0), StopRequest(), remedy="look")
    server.granted = None
    server.reviewers.append(lambda *_: time.sleep(2))
    with pytest.raises(ClusterError, match="no answer"):
        api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}})

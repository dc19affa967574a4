"""What `optduel doctor` finds out about what the launcher may do: its service account, and nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optduel.pipeline.cli.shipped import load_deployment
from optduel.pipeline.doctor import cluster as doctor_kubernetes
from optduel.pipeline.doctor.cluster import Check
from tests.cluster.kubernetes_objects import ApiError
from tests.cluster.kubernetes_reviews import Permission
from tests.cluster.kubernetes_server import KubernetesServer
from tests.cluster.roles import launcher_permissions

ACCOUNT = "system:serviceaccount:kubeflow:pipeline-runner"
MISSING = {("create", "trainer.kubeflow.org", "trainjobs", ""), ("get", "", "pods", "log")}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    """A cluster whose caller is an administrator, and whose launcher has its Role."""
    with KubernetesServer(user="admin", accounts={ACCOUNT: launcher_permissions()}) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running


def permissions(kind: str = "trainjob") -> Check:
    """The check of permissions."""
    deployment = load_deployment(kind, ["image=optduel:1"])
    checks = doctor_kubernetes.examine_kubernetes(None, "kubeflow", "pipeline-runner", deployment, 1)
    (found,) = (check for check in checks if check.name == "permissions")
    return found


@pytest.mark.parametrize("kind", ["trainjob", "tfjob"])
def test_the_permissions_that_are_checked_are_those_of_the_manifests(kind: str) -> None:
    checked = {
        (verb, group, resource.partition("/")[0], resource.partition("/")[2])
        for verb, group, resource in doctor_kubernetes.launcher_permissions(kind)
    }
    other = "tfjobs" if kind == "trainjob" else "trainjobs"
    assert checked == {one for one in launcher_permissions() if one[2] != other}


def test_an_administrator_is_told_of_the_account_and_not_of_itself(server: KubernetesServer) -> None:
    server.denied = MISSING
    assert permissions().status == "ok"
    server.denied = set()
    server.accounts[ACCOUNT] -= MISSING
    told = permissions()
    assert told.status == "failed"
    assert told.detail == (
        "service account pipeline-runner in namespace kubeflow: may not create "
        "trainjobs.trainer.kubeflow.org, get pods/log; apply the manifests "
        "(kubectl apply -k manifests/overlays/...): Role optduel-launcher"
    )


def test_the_role_of_another_namespace_does_not_count(server: KubernetesServer) -> None:
    server.accounts = {ACCOUNT.replace("kubeflow", "team"): launcher_permissions()}
    assert permissions().status == "failed"


@pytest.mark.parametrize("own", [launcher_permissions(), set()], ids=["may do all", "may do nothing"])
def test_who_may_not_impersonate_the_account_is_told_so_and_nothing_of_itself(
    server: KubernetesServer, own: set[Permission]
) -> None:
    server.user, server.granted = "jane", own
    told = permissions()
    assert told.status == "skipped"
    assert told.detail == (
        "service account pipeline-runner in namespace kubeflow: you may not ask what it may do: "
        'serviceaccounts "pipeline-runner" is forbidden: User "jane" cannot impersonate resource '
        '"serviceaccounts" in API group "" in the namespace "kubeflow"; have somebody run the doctor who may '
        "impersonate it, or see `kubectl describe rolebinding optduel-launcher --namespace kubeflow`"
    )


def test_the_account_itself_needs_not_impersonate_itself(server: KubernetesServer) -> None:
    server.user, server.granted = ACCOUNT, launcher_permissions()
    assert permissions().status == "ok"
    server.granted -= MISSING
    assert "may not create trainjobs.trainer.kubeflow.org, get pods/log" in permissions().detail


def test_a_server_that_does_not_tell_who_asks_tells_of_the_account(server: KubernetesServer) -> None:
    server.fail(ApiError(404, "NotFound", "not found"), resource="selfsubjectreviews")
    assert permissions().status == "ok"

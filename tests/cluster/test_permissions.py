"""The launcher's Role grants what the launcher calls: every verb is used, and no other one is tried.

That no other one is tried holds in all tests of the launcher: their API server grants the Role and no more.
"""

import contextlib

import pytest

from optduel.components.core import OptduelError
from tests.cluster.conftest import Train
from tests.cluster.controllers import Cluster
from tests.cluster.kubernetes_server import KubernetesServer
from tests.cluster.roles import FOR_EVERYONE, launcher_permissions


def play_all(cluster: Cluster, train: Train, kind: str) -> None:
    """A job that is completed, one that never starts, and one whose name is taken."""

    def succeed() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        cluster.server.log(pods[0], "line")
        cluster.wait_until_watched()
        cluster.complete(job, pods)

    train(succeed, kind=kind)
    (job,) = cluster.jobs()
    name = job["metadata"]["name"]
    cluster.server.remove(cluster.plural, name)
    with contextlib.suppress(OptduelError):
        train(kind=kind, gang_seconds=0.1)
    cluster.server.add(cluster.plural, {"metadata": {"name": name}, "spec": {}})
    with contextlib.suppress(OptduelError):
        train(kind=kind)


@pytest.mark.usefixtures("step_pod")
def test_every_permission_of_the_role_is_used_and_nothing_else_asked_for(
    server: KubernetesServer, cluster: Cluster, tf_cluster: Cluster, train: Train
) -> None:
    server.granted = None
    play_all(cluster, train, "trainjob")
    play_all(tf_cluster, train, "tfjob")
    used = {request.permission for request in server.requests}
    assert used - FOR_EVERYONE == launcher_permissions()

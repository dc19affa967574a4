"""What a cluster does not admit: the launcher says so before anything is spent, with a remedy."""

from collections.abc import Callable

import pytest

from optduel.components.core import SetupError
from tests.cluster.conftest import Train
from tests.cluster.controllers import Cluster
from tests.cluster.kubernetes_server import KubernetesServer


def rejecting(server: KubernetesServer) -> None:
    server.reject("trainjobs", "team quota of 4 GPUs exceeded")


def without_runtime(server: KubernetesServer) -> None:
    server.remove("clustertrainingruntimes", "tensorflow-distributed")


def without_permission(server: KubernetesServer) -> None:
    server.denied.add(("create", "trainer.kubeflow.org", "trainjobs", ""))


def without_right_to_the_runtime(server: KubernetesServer) -> None:
    server.denied.add(("get", "trainer.kubeflow.org", "clustertrainingruntimes", ""))


def without_token(server: KubernetesServer) -> None:
    server.token = "another"


def with_an_older_trainer(server: KubernetesServer) -> None:
    server.missing_fields["TrainJob"] = {"runtimePatches"}


def without_trainer(server: KubernetesServer) -> None:
    server.uninstall("trainer.kubeflow.org")


@pytest.mark.parametrize(
    ("hinder", "words"),
    [
        (
            rejecting,
            "cannot be created: admission webhook.*team quota of 4 GPUs exceeded; change the deployment",
        ),
        (
            without_runtime,
            "job.runtime = tensorflow-distributed: the cluster has no.*apply optduel's manifests",
        ),
        (without_permission, r"cannot create resource \"trainjobs\".*bind the Role optduel-launcher"),
        (without_right_to_the_runtime, "cannot get .*resourceNames of ClusterRole optduel-runtime-reader"),
        (without_token, "Unauthorized; this step's service account is not known to the cluster"),
        (with_an_older_trainer, 'unknown field "spec.runtimePatches"; install an operator'),
        (without_trainer, "install Kubeflow Trainer"),
    ],
)
def test_what_the_cluster_does_not_admit_is_told_before_anything_is_spent(
    server: KubernetesServer,
    cluster: Cluster,
    train: Train,
    hinder: Callable[[KubernetesServer], None],
    words: str,
) -> None:
    hinder(server)
    with pytest.raises(SetupError, match=words) as raised:
        train()
    assert "\n" not in str(raised.value)
    assert server.objects.created("trainjobs") == []


def test_every_job_is_checked_before_it_is_made(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    rehearsals: list[bool] = []
    server.reviewers.append(lambda _resource, _body, query: rehearsals.append(query.get("dryRun") == "All"))

    def play() -> None:
        cluster.complete(job := cluster.wait_for_job(), cluster.run(job))

    train(play)
    assert rehearsals == [True, False]


def test_a_job_of_the_same_name_that_is_not_ours_is_left_alone(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        cluster.complete(job := cluster.wait_for_job(), cluster.run(job))

    train(play)
    (job,) = cluster.jobs()
    server.remove("trainjobs", job["metadata"]["name"])
    server.add("trainjobs", {"metadata": {"name": job["metadata"]["name"]}, "spec": {}})
    with pytest.raises(SetupError, match="exists already and is not of this run"):
        train()
    assert [kept["spec"] for kept in server.find("trainjobs")] == [{}]

"""An API server that is away, slow or forgetful costs nothing but time, and that is bounded."""

import io
import threading
import time

import pytest

from optduel.components.core import ClusterError, SetupError
from tests.cluster.conftest import Train
from tests.cluster.controllers import Cluster, until
from tests.cluster.kubernetes_objects import ApiError
from tests.cluster.kubernetes_server import KubernetesServer


def test_watches_and_logs_that_break_off_go_on_where_they_were(
    server: KubernetesServer, cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        for line in range(10):
            server.log(pods[0], f"line {line}")
            until(lambda line=line: f"| line {line}\n" in narration.getvalue())
            until(lambda: server.cut("watch") and server.cut("log"))
        cluster.complete(job, pods)

    train(play)
    lines = [line for line in narration.getvalue().splitlines() if line.startswith("worker 0")]
    assert lines == [f"worker 0 | line {line}" for line in range(10)]


def test_versions_that_the_server_has_forgotten(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        for _ in range(3):
            cluster.wait_until_watched()
            server.objects.forget()
            lists = sum(request.verb == "list" for request in server.requests)
            until(lambda lists=lists: sum(request.verb == "list" for request in server.requests) > lists + 1)
        server.cut()
        server.objects.forget()
        cluster.complete(job, pods)

    train(play)


def test_a_job_that_ends_while_nobody_watches(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        cluster.wait_until_watched()
        server.go_away()
        cluster.complete(job, pods)
        server.objects.forget()
        server.come_back()

    train(play)


def test_an_outage_is_survived(server: KubernetesServer, cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        cluster.wait_until_watched()
        server.go_away()
        time.sleep(0.6)  # of the 1.0 s that are allowed
        server.come_back()
        cluster.complete(job, pods)

    train(play)
    assert len(cluster.created()) == 1


def test_an_outage_without_end_ends_the_step_but_not_the_job(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        cluster.run(cluster.wait_for_job())
        cluster.wait_until_watched()
        server.go_away()

    begun = time.monotonic()
    with pytest.raises(ClusterError, match=r"no answer for 1 s \(Failed to establish.*refused.*goes on"):
        train(play)
    assert time.monotonic() - begun < 10
    assert len(cluster.jobs()) == 1


def test_a_server_that_is_away_from_the_start(server: KubernetesServer, train: Train) -> None:
    server.go_away()
    with pytest.raises(ClusterError, match=f"Kubernetes API {server.url}: no answer for 1 s"):
        train()


def test_a_server_that_comes_back_before_anything_was_made(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    server.go_away()
    threading.Timer(0.4, server.come_back).start()

    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_answers_that_say_later(server: KubernetesServer, cluster: Cluster, train: Train, code: int) -> None:
    server.fail(ApiError(code, "Busy", "later"), times=3)
    server.fail(ApiError(code, "Busy", "later"), times=3, verb="watch")

    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play)


def test_an_answer_that_is_lost_after_the_job_was_made(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    server.loses_next_creation = True

    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play)
    assert len(cluster.created()) == 1


def test_rights_that_are_taken_away_meanwhile(
    server: KubernetesServer, cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        cluster.run(cluster.wait_for_job())
        cluster.wait_until_watched()
        server.denied.add(("watch", "", "pods", ""))
        server.cut("watch")

    with pytest.raises(SetupError, match="pods cannot be watched.*bind the Role optduel-launcher"):
        train(play)


def test_logs_that_may_not_be_read_do_not_end_the_training(
    server: KubernetesServer, cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    server.denied.add(("get", "", "pods", "log"))

    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play)
    assert "cannot be read" in narration.getvalue()


def test_a_server_that_has_not_read_its_roles_yet_takes_no_rights_away(
    server: KubernetesServer, cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        server.log(pods[0], "before")
        until(lambda: "worker 0 | before" in narration.getvalue())
        cluster.wait_until_watched()
        server.go_away()
        server.come_back(refusing_seconds=0.3)
        server.log(pods[0], "after")
        until(lambda: "worker 0 | after" in narration.getvalue())
        cluster.complete(job, pods)

    train(play)
    assert "cannot be read" not in narration.getvalue()


def test_a_log_that_was_not_there_yet_may_be_read_after_all(
    server: KubernetesServer, cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    def play() -> None:
        server.fail(ApiError(400, "BadRequest", "is waiting to start"), verb="get", resource="pods")
        server.fail(ApiError(403, "Forbidden", "cannot get"), times=3, verb="get", resource="pods")
        job = cluster.wait_for_job()
        pods = cluster.make_pods(job)
        cluster.start(pods[0])
        server.log(pods[0], "line")
        until(lambda: "worker 0 | line" in narration.getvalue())
        cluster.complete(job, pods)

    train(play)
    assert "cannot be read" not in narration.getvalue()

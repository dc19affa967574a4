"""TFJobs, whose operator never restarts workers together: the launcher does."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.core import DataError, LaunchError, OutOfMemoryError
from tests.cluster.conftest import Train, make_task
from tests.cluster.controllers import Cluster

PEER_LOST = {"error": "PeerLostError", "message": "worker 0 lost another worker", "step": 40}


def losing_workers(cluster: Cluster, times: int, step: Callable[[int], int]) -> Callable[[], None]:
    """Plays jobs whose second worker is killed, then one that is complete."""

    def play() -> None:
        for attempt in range(times):
            job = cluster.wait_for_job(attempt + 1)
            pods = cluster.run(job)
            cluster.end(pods[1], 137)
            cluster.end(pods[0], 75, report=PEER_LOST | {"step": step(attempt)})
            cluster.fail(job, "1 Worker replica(s) failed")
        job = cluster.wait_for_job(times + 1)
        cluster.complete(job, cluster.run(job))

    return play


def test_a_lost_worker_restarts_the_group_as_a_new_job(
    tf_cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    train(losing_workers(tf_cluster, 2, lambda attempt: attempt), kind="tfjob")
    names = tf_cluster.created()
    assert [name[-2:] for name in names] == ["-0", "-1", "-2"]
    assert [job["metadata"]["name"] for job in tf_cluster.jobs()] == names[-1:]
    assert "worker 1 of 2: killed by signal 9" in narration.getvalue()
    assert "(restart 2 of 3)" in narration.getvalue()


def test_each_group_knows_its_own_addresses(tf_cluster: Cluster, train: Train) -> None:
    train(losing_workers(tf_cluster, 1, lambda attempt: attempt), kind="tfjob")
    (job,) = tf_cluster.jobs()
    name = job["metadata"]["name"]
    (container,) = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    peers = {entry["name"]: entry.get("value") for entry in container["env"]}["OPTDUEL_PEERS"]
    assert peers == f"{name}-worker-0.team.svc:2222,{name}-worker-1.team.svc:2222"


def test_a_crash_loop_ends(tf_cluster: Cluster, train: Train) -> None:
    words = "killed by signal 9.*The last 3 attempts all ended at step 40"
    with pytest.raises(LaunchError, match=words):
        train(losing_workers_without_end(tf_cluster, 3, lambda _: 40), kind="tfjob")
    assert len(tf_cluster.created()) == 3


def test_restarts_are_bounded(tf_cluster: Cluster, train: Train, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"It was restarted compute\.restarts = 2 times"):
        train(
            losing_workers_without_end(tf_cluster, 3, lambda attempt: attempt),
            its_task=make_task(tmp_path, restarts=2),
            kind="tfjob",
        )
    assert len(tf_cluster.created()) == 3


def losing_workers_without_end(
    cluster: Cluster, times: int, step: Callable[[int], int]
) -> Callable[[], None]:
    def play() -> None:
        for attempt in range(times):
            job = cluster.wait_for_job(attempt + 1)
            pods = cluster.run(job)
            cluster.end(pods[1], 137)
            cluster.end(pods[0], 75, report=PEER_LOST | {"step": step(attempt)})
            cluster.fail(job)

    return play


def test_bad_data_is_final(tf_cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = tf_cluster.wait_for_job()
        pods = tf_cluster.run(job)
        tf_cluster.end(pods[0], 65, report={"error": "DataError", "message": "bad shard"})
        tf_cluster.fail(job)

    with pytest.raises(DataError, match="^bad shard"):
        train(play, kind="tfjob")
    assert len(tf_cluster.created()) == 1


def test_memory_that_never_suffices_is_told_as_such(
    tf_cluster: Cluster, train: Train, tmp_path: Path
) -> None:
    def play() -> None:
        for attempt in range(2):
            job = tf_cluster.wait_for_job(attempt + 1)
            pods = tf_cluster.run(job)
            tf_cluster.end(pods[0], 137, reason="OOMKilled")
            tf_cluster.fail(job)

    with pytest.raises(OutOfMemoryError, match=r"OOMKilled.*train\.memory"):
        train(play, its_task=make_task(tmp_path, restarts=1), kind="tfjob")

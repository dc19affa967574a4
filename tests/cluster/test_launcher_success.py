"""Jobs that go well: what is made of a trial, and what its person sees meanwhile."""

import io
import json
from pathlib import Path

from optduel.components.settings import decode
from optduel.components.storage import stat
from optduel.components.train.contract.task import Task
from tests.cluster.conftest import Train, make_task
from tests.cluster.controllers import Cluster, until
from tests.cluster.kubernetes_server import KubernetesServer


def test_two_workers_train_and_their_lines_come_out_while_they_run(
    cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        cluster.server.log(pods[0], "epoch 1")
        cluster.server.log(pods[1], "reads shard 1")
        until(lambda: "worker 1 | reads shard 1" in narration.getvalue())
        until(lambda: "all 2 workers run" in narration.getvalue())
        cluster.server.log(pods[0], "epoch 2")
        cluster.complete(job, pods)

    train(play)
    lines = narration.getvalue().splitlines()
    assert [line for line in lines if line.startswith("worker 0")] == [
        "worker 0 | epoch 1",
        "worker 0 | epoch 2",
    ]
    assert len(cluster.created()) == 1


def test_the_workers_find_their_task(cluster: Cluster, task: Task, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play)
    (job,) = cluster.jobs()
    (place,) = job["spec"]["trainer"]["args"]
    assert decode(Task, Path(place).read_text(), place) == task


def test_the_job_ends_with_its_workflow(
    server: KubernetesServer, cluster: Cluster, train: Train, step_pod: str
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play)
    (owner,) = cluster.jobs()[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Workflow", step_pod, False)
    server.remove("workflows", step_pod)
    assert cluster.jobs() == []


def test_a_queued_job_waits_for_its_admission(cluster: Cluster, train: Train) -> None:
    cluster.server.reviewers.append(
        lambda resource, body, _: hold(body) if resource.kind == "TrainJob" else None
    )

    def hold(body: dict[str, dict[str, object]]) -> None:
        body["spec"]["suspend"] = True

    def play() -> None:
        job = cluster.wait_for_job()
        cluster.wait_until_watched()
        cluster.suspend(job, held=False)
        pods = cluster.run(job)
        # Preempted: its pods go, and come back later.
        cluster.suspend(job, held=True)
        for pod in pods:
            cluster.server.remove("pods", pod)
        cluster.suspend(job, held=False)
        cluster.complete(job, cluster.run(job))

    train(play, queue="gpus")
    (job,) = cluster.jobs()
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_a_restart_by_the_runtime_is_told_and_followed(
    cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    report = {"error": "LaunchError", "message": "worker 1 hangs", "step": 12}

    def play() -> None:
        job = cluster.wait_for_job()
        first = cluster.run(job)
        cluster.wait_until_watched()
        cluster.end(first[1], 75, report=report)
        until(lambda: "worker 1 hangs" in narration.getvalue())
        for pod in first:
            cluster.server.remove("pods", pod)
        second = cluster.run(job, restart=1)
        until(lambda: "all workers start again (restart 1)" in narration.getvalue())
        cluster.server.log(second[0], "goes on at step 12")
        until(lambda: "worker 0 | goes on at step 12" in narration.getvalue())
        cluster.complete(job, second)

    train(play)


def test_one_worker_needs_no_peers(cluster: Cluster, tmp_path: Path, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play, its_task=make_task(tmp_path / "alone", workers=1))
    variables = [entry["name"] for entry in cluster.jobs()[0]["spec"]["trainer"]["env"]]
    assert variables == ["OPTDUEL_LEASE_SECONDS"]


def test_the_lease_is_there_as_long_as_the_job_is_followed(
    cluster: Cluster, tf_cluster: Cluster, train: Train, tmp_path: Path
) -> None:
    for kind, its_cluster in (("trainjob", cluster), ("tfjob", tf_cluster)):
        task = make_task(tmp_path / kind)

        def play(its_cluster: Cluster = its_cluster, task: Task = task) -> None:
            job = its_cluster.wait_for_job()
            first = stat(task.lease_file)
            assert first
            until(lambda: (found := stat(task.lease_file)) and found.version != first.version)
            its_cluster.complete(job, its_cluster.run(job))

        train(play, its_task=task, kind=kind, unfollowed_seconds=2)
        assert stat(task.lease_file) is None
        (job,) = its_cluster.jobs()
        assert '{"name": "OPTDUEL_LEASE_SECONDS", "value": "2"}' in json.dumps(job["spec"])
        its_cluster.server.remove(its_cluster.plural, job["metadata"]["name"])

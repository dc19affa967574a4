"""Jobs that do not get on: each wait ends, the job with it, and the message says what it waited for."""

import io
from collections.abc import Callable

import pytest

from optduel.components.core import LaunchError, OptduelError, SetupError
from tests.cluster.conftest import Train
from tests.cluster.controllers import Cluster, until
from tests.cluster.kubernetes_objects import Object, Resource

UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}


def waiting(cluster: Cluster, reason: str, message: str) -> Callable[[], None]:
    """Plays a job whose pods cannot start."""

    def play() -> None:
        for pod in cluster.make_pods(cluster.wait_for_job()):
            cluster.stop_waiting(pod, reason, message)

    return play


def test_workers_that_are_never_scheduled(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        pods = cluster.make_pods(cluster.wait_for_job(), conditions=[UNSCHEDULED])
        cluster.start(pods[0])

    words = (
        r"1 of 2 workers run within job\.gang_seconds = 0\.6 .*"
        r"worker 1 of 2 cannot be scheduled: 0/3 nodes are available: 3 Insufficient nvidia\.com/gpu"
        r"\. The TrainJob was deleted$"
    )
    with pytest.raises(LaunchError, match=words):
        train(play, gang_seconds=0.6)
    assert cluster.jobs() == []


def test_an_image_that_cannot_be_pulled(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        for pod in cluster.make_pods(cluster.wait_for_job()):
            cluster.stop_waiting(
                pod, "ErrImagePull", 'failed to pull "registry.example.com/optduel": not found'
            )
            cluster.wait_until_watched()
            cluster.stop_waiting(pod, "ImagePullBackOff", "Back-off pulling image")

    with pytest.raises(
        SetupError, match="ErrImagePull: failed to pull .* not found; check the deployment's image"
    ):
        train(play)
    assert cluster.jobs() == []


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("InvalidImageName", 'Failed to apply default image tag "a b": invalid reference format'),
        ("CreateContainerConfigError", 'secret "store" not found'),
    ],
)
def test_settings_that_no_container_can_start_with(
    cluster: Cluster, train: Train, reason: str, message: str
) -> None:
    with pytest.raises(SetupError, match=f"{reason}: {message}"):
        train(waiting(cluster, reason, message))
    assert cluster.jobs() == []


def test_an_image_that_is_found_after_all(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.make_pods(job)
        cluster.stop_waiting(pods[0], "ErrImagePull", "registry answers 503")
        cluster.wait_until_watched()
        cluster.start(*pods)
        cluster.complete(job, pods)

    train(play, timing={"unstartable": 20.0})


def test_a_worker_whose_node_is_lost_keeps_the_group_from_starting_again(
    cluster: Cluster, train: Train
) -> None:
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}

    def leave(pod: Object) -> None:
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        pod["status"]["conditions"] = [evicted]
        pod["spec"]["nodeName"] = "node-7"

    def play() -> None:
        pods = cluster.run(cluster.wait_for_job())
        cluster.wait_until_watched()
        cluster.server.change("pods", pods[0], leave)
        cluster.end(pods[1], 75, report={"error": "PeerLostError", "message": "lost a peer", "step": 4})
        cluster.server.change("pods", pods[1], leave)

    words = (
        "1 of 2 workers run within .*worker 0 of 2: its pod should have ended by 2026-01-01T00:00:00Z "
        r"\(DeletionByTaintManager\), but its node node-7 does not report that it has; delete the node"
    )
    with pytest.raises(LaunchError, match=words) as raised:
        train(play, gang_seconds=0.6)
    assert "worker 1 of 2: its pod" not in str(raised.value)
    assert cluster.jobs() == []


def test_a_volume_that_is_not_there_is_known_from_events_only(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        pods = cluster.make_pods(cluster.wait_for_job())
        cluster.warn(pods[0], "FailedMount", 'persistentvolumeclaim "data" not found')

    with pytest.raises(LaunchError, match='FailedMount: persistentvolumeclaim "data" not found'):
        train(play, gang_seconds=0.4)


def test_a_job_without_pods_is_told_in_its_controllers_words(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        cluster.warn(job, "TrainJobResourcesCreationFailed", "jobset is invalid: name too long")

    with pytest.raises(
        LaunchError, match=r"no pods after 0\.2 s: TrainJobResourcesCreationFailed: jobset is invalid"
    ):
        train(play)
    assert cluster.jobs() == []


def test_a_complaint_that_differs_in_a_pods_generated_name_only_is_told_once(
    cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        for attempt in ("79dm6", "lmh5h", "khvq7"):
            told = f'Error creating: pods "{job}-node-0-1-{attempt}" is forbidden: exceeded quota: few'
            cluster.warn(f"{job}-node-0", "FailedCreate", told)
        cluster.warn(job, "Pending", "another complaint")

    with pytest.raises(LaunchError, match="another complaint") as raised:
        train(play)
    assert str(raised.value).count("exceeded quota") == 1


def test_a_job_that_no_queue_admits(cluster: Cluster, train: Train) -> None:
    def hold(resource: Resource, body: Object, _query: Object) -> None:
        if resource.kind == "TrainJob":
            body["spec"]["suspend"] = True

    cluster.server.reviewers.append(hold)

    def play() -> None:
        cluster.warn(
            cluster.wait_for_job(), "Pending", "insufficient unused quota for nvidia.com/gpu, 4 more needed"
        )

    with pytest.raises(LaunchError, match=r"not admitted within job\.queue_seconds = 0\.5 .*4 more needed"):
        train(play, queue_seconds=0.5, queue="gpus")
    assert cluster.jobs() == []


def test_a_run_that_does_not_end(cluster: Cluster, train: Train) -> None:
    with pytest.raises(LaunchError, match=r"not finished within job\.run_seconds = 0\.4 .*checkpoints stay"):
        train(lambda: cluster.run(cluster.wait_for_job()), run_seconds=0.4)
    assert cluster.jobs() == []


def test_a_group_that_is_restarted_for_ever_ends_too(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        restart = 0
        while cluster.jobs():
            try:
                for pod in cluster.run(job, restart):
                    cluster.server.remove("pods", pod)
            except (StopIteration, RuntimeError):  # the job is gone
                return
            restart += 1

    with pytest.raises(OptduelError, match="run_seconds"):
        train(play, run_seconds=0.5)


def test_why_a_worker_does_not_start_is_said_while_it_does_not(
    cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    """A condition at once; events of a pod that says nothing itself, each once."""

    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.make_pods(job)
        cluster.set_status(pods[0], conditions=[UNSCHEDULED])
        until(lambda: "worker 0 of 2 cannot be scheduled: 0/3 nodes" in narration.getvalue())
        for _ in range(2):
            cluster.warn(pods[1], "FailedMount", 'secret "store" not found')
        until(lambda: f'TrainJob {job}: FailedMount: secret "store" not found' in narration.getvalue())
        cluster.warn(pods[1], "FailedCreatePodSandBox", "no address is left")
        until(lambda: "FailedCreatePodSandBox: no address is left" in narration.getvalue())
        cluster.start(*pods)
        cluster.complete(job, pods)

    train(play)
    assert narration.getvalue().count("FailedMount") == 1

"""Jobs that fail: one message names the cause, whatever else ended with it."""

import io
import time
from collections.abc import Callable
from typing import Any

import pytest

from optduel.components.core import (
    DataError,
    LaunchError,
    OptduelError,
    OutOfMemoryError,
    SetupError,
    StoppedError,
    TrainingError,
)
from tests.cluster.conftest import Train
from tests.cluster.controllers import Cluster, until
from tests.cluster.kubernetes_objects import Object

PEER_LOST = {"error": "PeerLostError", "message": "worker 0 lost another worker", "step": 40}


def failing(cluster: Cluster, end: Callable[[list[str]], None]) -> Callable[[], None]:
    """Plays a job whose workers run, end as told, and are given up."""

    def play() -> None:
        job = cluster.wait_for_job()
        pods = cluster.run(job)
        end(pods)
        cluster.fail(job)

    return play


def test_a_worker_out_of_memory_is_the_cause_of_its_peers_ends(cluster: Cluster, train: Train) -> None:
    def end(pods: list[str]) -> None:
        cluster.end(pods[0], 75, report=PEER_LOST, finishedAt="2026-01-01T00:00:00Z")
        cluster.end(pods[1], 137, reason="OOMKilled", finishedAt="2026-01-01T00:00:05Z")

    with pytest.raises(
        OutOfMemoryError, match=r"worker 1 of 2: OOMKilled.*limit, 2Gi; raise .*train\.memory"
    ):
        train(failing(cluster, end))


def test_what_a_worker_reported_is_repeated_word_for_word(cluster: Cluster, train: Train) -> None:
    report = {"error": "DataError", "message": "gs://b/shard-3: differs from its manifest; prepare it again"}

    def end(pods: list[str]) -> None:
        cluster.end(pods[1], 65, report=report)
        cluster.end(pods[0], 75, report=PEER_LOST)

    with pytest.raises(DataError, match="^gs://b/shard-3: differs from its manifest; prepare it again"):
        train(failing(cluster, end))


def test_a_worker_that_reported_its_want_of_memory_knows_more_than_the_kubelet(
    cluster: Cluster, train: Train
) -> None:
    report = {"error": "OutOfMemoryError", "message": "worker 0, training step 12: want of memory"}
    with pytest.raises(OutOfMemoryError, match="^worker 0, training step 12"):
        train(failing(cluster, lambda pods: cluster.end(pods[0], 137, report=report, reason="OOMKilled")))


def test_a_report_that_is_no_report_of_ours_is_shown_as_it_is(cluster: Cluster, train: Train) -> None:
    def end(pods: list[str]) -> None:
        told = "  File x\nModuleNotFoundError: No module named 'components'\nException ignored in: <f>\nbye\n"
        cluster.end(pods[0], 1, message=told)

    with pytest.raises(LaunchError, match="exited with code 1: ModuleNotFoundError: No module named"):
        train(failing(cluster, end))


@pytest.mark.parametrize("message", ['{"error": "Boom"}', "17", '["error"]', '{"error": "DataErr'])
def test_odd_reports_do_not_hide_the_exit_code(cluster: Cluster, train: Train, message: str) -> None:
    with pytest.raises(TrainingError, match="exited with code 70"):
        train(failing(cluster, lambda pods: cluster.end(pods[0], 70, message=message)))


def test_a_killed_worker_is_told_from_one_out_of_memory(cluster: Cluster, train: Train) -> None:
    with pytest.raises(LaunchError, match="worker 0 of 2: killed by signal 9"):
        train(failing(cluster, lambda pods: cluster.end(pods[0], 137)))


def test_a_command_that_is_not_in_the_image(cluster: Cluster, train: Train) -> None:
    def end(pods: list[str]) -> None:
        cluster.end(pods[0], 128, reason="StartError", message='exec: "python3": not found')

    with pytest.raises(
        SetupError, match=r'command cannot be run \(exec: "python3": not found\).*make images'
    ):
        train(failing(cluster, end))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low",
        ),
        ({"reason": "NodeLost"}, "NodeLost"),
        (
            {
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "default-scheduler: preempting to accommodate a higher priority pod",
                    }
                ]
            },
            "PreemptionByScheduler: default-scheduler: preempting",
        ),
    ],
)
def test_a_pod_that_the_cluster_took(cluster: Cluster, train: Train, status: Object, words: str) -> None:
    def end(pods: list[str]) -> None:
        cluster.set_status(pods[1], phase="Failed", containerStatuses=[], **status)
        cluster.end(pods[0], 75, report=PEER_LOST)

    with pytest.raises(LaunchError, match=f"worker 1 of 2: lost its pod: {words}"):
        train(failing(cluster, end))


def test_a_drained_worker_that_has_saved_says_both(cluster: Cluster, train: Train) -> None:
    saved = {"error": "StoppedError", "message": "worker 0: asked to stop; saved at step 9", "step": 9}
    drain = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "drain",
    }

    def end(pods: list[str]) -> None:
        cluster.set_status(pods[0], conditions=[drain])
        cluster.end(pods[0], 143, report=saved)

    with pytest.raises(StoppedError, match="saved at step 9; its pod: EvictionByEvictionAPI: drain"):
        train(failing(cluster, end))


def test_what_ended_an_earlier_attempt_is_not_the_cause(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        cluster.end(cluster.run(job)[0], 137, reason="OOMKilled")
        cluster.run(job, restart=1)
        cluster.set_condition(
            job, "Failed", "DeadlineExceeded", "TrainJob was active longer than its deadline"
        )

    with pytest.raises(LaunchError, match="DeadlineExceeded: TrainJob was active longer"):
        train(play)


def test_a_job_that_fails_without_a_pod_is_told_in_its_controllers_words(
    cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        cluster.fail(cluster.wait_for_job(), "jobset failed due to reaching max number of restarts")

    with pytest.raises(
        LaunchError, match="workers told nothing: JobSetFailed: jobset failed due to reaching"
    ):
        train(play)


def test_pods_that_are_gone_with_the_job_have_told_their_end_before(
    cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    def end(pods: list[str]) -> None:
        cluster.end(pods[1], 65, report={"error": "DataError", "message": "bad shard"})
        until(lambda: "bad shard" in narration.getvalue())
        for pod in pods:
            cluster.server.remove("pods", pod)

    with pytest.raises(DataError, match="^bad shard"):
        train(failing(cluster, end))


def test_a_job_that_someone_deletes_is_not_made_again(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        cluster.run(job)
        cluster.wait_until_watched()
        cluster.server.remove("trainjobs", job)

    with pytest.raises(LaunchError, match="was deleted by someone else; it is not created again"):
        train(play)
    assert len(cluster.created()) == 1


def test_a_crash_loop_at_one_step_is_ended_before_all_restarts_are_used_up(
    cluster: Cluster, train: Train
) -> None:
    report = {"error": "OutOfMemoryError", "message": "worker 1: want of memory", "step": 12}

    def play() -> None:
        job = cluster.wait_for_job()
        for restart in range(4):
            pods = cluster.run(job, restart)
            cluster.wait_until_watched()
            if restart < 3:
                cluster.end(pods[0], 75, report=PEER_LOST | {"step": 12})
                cluster.end(pods[1], 137, report=report)

    words = "worker 1: want of memory. The last 3 attempts all ended at step 12, .*TrainJob was deleted"
    with pytest.raises(OutOfMemoryError, match=words):
        train(play)
    assert cluster.jobs() == []


@pytest.mark.parametrize(
    "details",
    [
        {"code": 137},
        {"code": 143, "report": {"error": "StoppedError", "message": "saved after step 7", "step": 7}},
    ],
    ids=["killed", "asked to stop"],
)
def test_pods_that_the_cluster_takes_again_and_again_are_no_crash_loop(
    cluster: Cluster, train: Train, narration: io.StringIO, details: dict[str, Any]
) -> None:
    preempted = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}

    def play() -> None:
        job = cluster.wait_for_job()
        for restart in range(5):
            pods = cluster.run(job, restart)
            cluster.wait_until_watched()
            if restart < 4:
                for pod in pods:
                    cluster.set_status(pod, conditions=[preempted])
                    cluster.end(pod, **details)
        until(lambda: "(restart 4)" in narration.getvalue())
        time.sleep(0.2)  # ten looks of the launcher: it has had the time to give up
        cluster.complete(job, pods)

    train(play)


def test_a_worker_that_is_long_in_coming_is_no_crash_loop(
    cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    """Its peers start again and again while they wait for it; how long, `job.gang_seconds` says."""

    def play() -> None:
        job = cluster.wait_for_job()
        for restart in range(5):
            pods = cluster.make_pods(job, restart)
            cluster.start(pods[0])
            cluster.wait_until_watched()
            if restart < 4:
                cluster.end(pods[0], 75, report=PEER_LOST | {"step": 0})
        until(lambda: "(restart 4)" in narration.getvalue())
        time.sleep(0.2)
        cluster.start(pods[1])
        cluster.complete(job, pods)

    train(play)


def test_workers_that_all_run_and_never_meet_are_a_crash_loop(cluster: Cluster, train: Train) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        for restart in range(4):
            pods = cluster.run(job, restart)
            cluster.wait_until_watched()
            if restart < 3:
                for pod in pods:
                    cluster.end(pod, 75, report=PEER_LOST | {"step": 0})

    with pytest.raises(LaunchError, match="The last 3 attempts all ended at step 0"):
        train(play)


def test_restarts_that_make_headway_go_on(cluster: Cluster, train: Train, narration: io.StringIO) -> None:
    def play() -> None:
        job = cluster.wait_for_job()
        for restart in range(4):
            pods = cluster.run(job, restart)
            cluster.wait_until_watched()
            report = {"error": "OutOfMemoryError", "message": "want of memory", "step": restart}
            if restart < 3:
                cluster.end(pods[1], 137, report=report)
        until(lambda: "(restart 3)" in narration.getvalue())
        time.sleep(0.2)
        cluster.complete(job, pods)

    train(play)


def test_a_retried_step_does_not_repeat_what_cannot_succeed(cluster: Cluster, train: Train) -> None:
    def end(pods: list[str]) -> None:
        cluster.end(pods[0], 64, report={"error": "ExperimentError", "message": "no such model"})

    with pytest.raises(OptduelError, match="no such model"):
        train(failing(cluster, end))
    with pytest.raises(OptduelError, match="no such model"):
        train()
    assert len(cluster.created()) == 1


def test_a_job_that_is_made_anew_shares_no_name_with_pods_of_the_last_that_linger(
    cluster: Cluster, train: Train
) -> None:
    lingering: list[Object] = []

    def never_all() -> None:
        pods = cluster.make_pods(cluster.wait_for_job(), restart=3)
        cluster.start(pods[0])
        lingering.append(
            next(one for one in cluster.server.find("pods") if one["metadata"]["name"] == pods[0])
        )

    with pytest.raises(LaunchError, match="1 of 2 workers run within"):
        train(never_all, gang_seconds=0.6)
    (pod,) = lingering
    del pod["metadata"]["ownerReferences"]  # its owner is gone
    cluster.server.add("pods", pod)

    def play() -> None:
        job = cluster.wait_for_job(count=2)
        cluster.complete(job, cluster.run(job))

    train(play)
    assert [name.rpartition("-")[2] for name in cluster.created()] == ["0", "1"]


def test_a_retried_step_tries_again_what_may_succeed(cluster: Cluster, train: Train) -> None:
    with pytest.raises(LaunchError, match="killed"):
        train(failing(cluster, lambda pods: cluster.end(pods[0], 137)))

    def play() -> None:
        job = cluster.wait_for_job(count=2)
        cluster.complete(job, cluster.run(job))

    train(play)
    first, second = cluster.created()
    assert (first[:-1], first[-1], second[-1]) == (second[:-1], "0", "1")


UNFOLLOWED = {"error": "UnfollowedError", "message": "worker 0: no launcher has renewed it", "step": 40}


@pytest.mark.parametrize("kind", ["trainjob", "tfjob"])
def test_a_job_that_ended_for_want_of_a_launcher_is_made_anew_by_one_that_is_there(
    kind: str, cluster: Cluster, tf_cluster: Cluster, train: Train, narration: io.StringIO
) -> None:
    """The launcher was frozen, or could not reach the store."""
    its_cluster = cluster if kind == "trainjob" else tf_cluster

    def play() -> None:
        job = its_cluster.wait_for_job()
        pods = its_cluster.run(job)
        for pod in pods:
            its_cluster.end(pod, 69, report=UNFOLLOWED)
        its_cluster.fail(job)
        again = its_cluster.wait_for_job(2)
        its_cluster.complete(again, its_cluster.run(again))

    train(play, kind=kind)
    assert len(its_cluster.created()) == 2
    assert "no launcher has renewed it" in narration.getvalue()
    assert "(restart 1 of 3)" in narration.getvalue()


def test_jobs_that_end_for_want_of_a_launcher_again_and_again_may_be_tried_by_another_task(
    cluster: Cluster, train: Train
) -> None:
    def play() -> None:
        for count in range(3):
            job = cluster.wait_for_job(count + 1)
            cluster.end(cluster.run(job)[0], 69, report=UNFOLLOWED)
            cluster.fail(job)

    with pytest.raises(
        LaunchError, match="no launcher has renewed it.*The last 3 attempts all ended at step 40"
    ) as raised:
        train(play)
    assert raised.value.worker_exit_code == 75

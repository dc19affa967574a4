"""Launchers as processes that are killed, evicted and cancelled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.components.core import StoppedError, UnfollowedError
from optduel.components.train.contract.task import Task
from tests.cluster.conftest import FAST, job_json
from tests.cluster.controllers import CASE_SECONDS, Cluster, until
from tests.cluster.kubernetes_objects import ApiError
from tests.cluster.kubernetes_server import KubernetesServer
from tests.train.processes import ending, script

LAUNCHER = """
import json, sys
from optduel.components.settings.authoring import decode
from optduel.components.core.errors import exit_on_error
from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
from optduel.components.kubernetes.timing import Timing
from optduel.components.train.contract.task import Task
task, job, timing = sys.argv[1:]
with exit_on_error("train"):
    launcher = ClusterLauncher(job, "run-1", "task-1", {}, Timing(**json.loads(timing)))
    launcher.run(decode(Task, task, "task"))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(server: KubernetesServer, task: Task) -> Iterator[Start]:
    """Starts launchers of the same task, with fields of the job section; they end with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(**job: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", LAUNCHER, task.canonical_json(), job_json(**job), json.dumps(FAST)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def told(process: "subprocess.Popen[str]") -> str:
    """What a process that ends has printed."""
    _, text = process.communicate(timeout=30)
    return text


def test_a_launcher_that_is_killed_is_replaced_and_the_job_goes_on(cluster: Cluster, start: Start) -> None:
    first = start()
    job = cluster.wait_for_job()
    pods = cluster.run(job)
    cluster.wait_until_watched()
    first.kill()
    told(first)
    second = start()
    cluster.wait_until_watched(4)
    cluster.complete(job, pods)
    assert f"TrainJob {job} exists already: follows it" in told(second)
    assert second.returncode == 0
    assert cluster.created() == [job]


def test_a_launcher_that_comes_after_the_end_returns_at_once(cluster: Cluster, start: Start) -> None:
    first = start()
    job = cluster.wait_for_job()
    pods = cluster.run(job)
    first.kill()
    cluster.complete(job, pods)
    second = start()
    told(second)
    assert second.returncode == 0
    assert cluster.created() == [job]


@pytest.mark.parametrize("spec", [{"activeDeadlineSeconds": 0}, {"shutdown": "Terminate"}])
def test_a_cancelled_run_takes_its_job_with_it_within_a_second(
    server: KubernetesServer, cluster: Cluster, start: Start, step_pod: str, spec: dict[str, object]
) -> None:
    launcher = start()
    cluster.run(cluster.wait_for_job())
    cluster.wait_until_watched()
    server.change("workflows", step_pod, lambda kept: kept["spec"].update(spec))
    begun = time.monotonic()
    os.kill(launcher.pid, signal.SIGTERM)
    until(lambda: not cluster.jobs())
    assert time.monotonic() - begun < 1.0
    assert "the run was cancelled: TrainJob" in told(launcher)
    assert launcher.returncode == StoppedError.worker_exit_code
    assert server.find("pods", "jobset.sigs.k8s.io/jobset-name") == []


def test_an_evicted_launcher_leaves_the_job_to_the_next(
    cluster: Cluster, start: Start, step_pod: str
) -> None:
    first = start()
    job = cluster.wait_for_job()
    pods = cluster.run(job)
    cluster.wait_until_watched()
    os.kill(first.pid, signal.SIGTERM)
    assert "the run was not cancelled" in told(first)
    assert first.returncode == StoppedError.worker_exit_code
    second = start()
    cluster.wait_until_watched(4)
    cluster.complete(job, pods)
    told(second)
    assert second.returncode == 0
    assert cluster.created() == [job]


def test_a_person_who_stops_a_launcher_outside_of_any_run_ends_the_job(
    cluster: Cluster, start: Start
) -> None:
    launcher = start()
    cluster.run(cluster.wait_for_job())
    cluster.wait_until_watched()
    os.kill(launcher.pid, signal.SIGINT)
    assert "was deleted" in told(launcher)
    assert cluster.jobs() == []


def test_a_cancellation_while_the_api_is_away_says_that_the_job_goes_on(
    server: KubernetesServer, cluster: Cluster, start: Start, step_pod: str
) -> None:
    launcher = start()
    cluster.run(cluster.wait_for_job())
    cluster.wait_until_watched()
    server.go_away()
    begun = time.monotonic()
    os.kill(launcher.pid, signal.SIGTERM)
    assert "could not be deleted" in told(launcher)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("spec", [{"activeDeadlineSeconds": 0}, {"shutdown": "Terminate"}])
def test_a_cancelled_run_takes_its_job_with_it_before_any_signal(
    server: KubernetesServer, cluster: Cluster, start: Start, step_pod: str, spec: dict[str, object]
) -> None:
    """Measured: the signal comes 5 to 15 s after the cancellation, the kill 84 ms after the signal."""
    launcher = start()
    cluster.run(cluster.wait_for_job())
    cluster.wait_until_watched()
    server.change("workflows", step_pod, lambda kept: kept["spec"].update(spec))
    assert "the run was cancelled: TrainJob" in told(launcher)
    assert launcher.returncode == StoppedError.worker_exit_code
    assert cluster.jobs() == []


def test_a_workflow_that_cannot_be_read_for_a_while_cancels_nothing(
    server: KubernetesServer, cluster: Cluster, start: Start, step_pod: str
) -> None:
    launcher = start()
    job = cluster.wait_for_job()
    pods = cluster.run(job)
    cluster.wait_until_watched()
    server.fail(ApiError(500, "InternalError", "no leader"), times=3, resource="workflows")
    server.fail(ApiError(403, "Forbidden", "no Roles yet"), times=3, resource="workflows")
    until(lambda: not any(fault.times for fault in server.faults))
    cluster.complete(job, pods)
    told(launcher)
    assert launcher.returncode == 0


WORKER = """
import sys
from optduel.components.train.worker import worker
sys.executable = sys.argv[2]
worker.main([sys.argv[1]])
"""

TRAINER = """
control.follow(0)
control.report("training", 120)
(folder / "trains").touch()
while not control.is_stop_requested:
    time.sleep(0.01)
(folder / "saved").touch()
end(StoppedError("saved after step 120"), step=120)
"""


def test_training_whose_launcher_was_killed_ends_by_itself_and_goes_on_when_one_comes_again(
    cluster: Cluster, start: Start, task: Task, tmp_path: Path
) -> None:
    first = start(unfollowed_seconds=3)
    job = cluster.wait_for_job()
    pods = cluster.run(job)
    trainer = cluster.jobs()[0]["spec"]["trainer"]
    told_worker = {entry["name"]: entry["value"] for entry in trainer["env"]}
    # The cluster's names of the workers mean nothing here: a worker alone.
    alone = task.model_copy(update={"compute": task.compute.model_copy(update={"workers": 1})})
    (tmp_path / "alone.json").write_text(alone.canonical_json())
    own = {
        "OPTDUEL_TERMINATION_LOG": str(tmp_path / "log"),
        "OPTDUEL_LEASE_SECONDS": told_worker["OPTDUEL_LEASE_SECONDS"],
    }
    command = [sys.executable, "-c", WORKER, str(tmp_path / "alone.json"), script(tmp_path / "t", TRAINER)]
    with ending(subprocess.Popen(command, env=os.environ | own, text=True)) as worker:
        until(lambda: (tmp_path / "trains").exists())
        first.kill()
        told(first)
        assert worker.wait(CASE_SECONDS) == UnfollowedError.worker_exit_code
    assert (tmp_path / "saved").exists()

    cluster.end(pods[0], UnfollowedError.worker_exit_code, report=json.loads((tmp_path / "log").read_text()))
    cluster.fail(job)
    second = start()
    again = cluster.wait_for_job(2)
    cluster.complete(again, cluster.run(again))
    told(second)
    assert second.returncode == 0
    assert cluster.created() == [job, again]

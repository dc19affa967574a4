"""Launchers as processes that are killed, evicted and cancelled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from optduel.components.core import StoppedError
from optduel.components.train.contract.task import Task
from tests.cluster.conftest import FAST, job_json
from tests.cluster.controllers import Cluster, until
from tests.cluster.kubernetes_server import KubernetesServer

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

Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(server: KubernetesServer, task: Task) -> Iterator[Start]:
    """Starts launchers of the same task; they end with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", LAUNCHER, task.canonical_json(), job_json(), json.dumps(FAST)]
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

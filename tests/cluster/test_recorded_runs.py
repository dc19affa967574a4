"""What runs of a real Kubeflow Pipelines tell: every task, its seed, attempts and words, at every size."""

import json
from typing import Any

import pytest

from optduel.components.core import ClusterError
from optduel.components.workflows import RunTask, Workflow, read_workflow, run_tasks, specification_of
from tests.cluster.kfp_argo import dense
from tests.cluster.recorded import answer, nodes_of, workflow


def recorded(run: str) -> Workflow:
    told = answer(f"{run}-v1beta1")
    return read_workflow(told, specification_of(told))


def changed(run: str, **fields: Any) -> Workflow:
    """A recorded run whose Workflow has other fields in its status."""
    told, manifest = answer(f"{run}-v1beta1"), workflow(run)
    manifest["status"] |= fields
    told["pipeline_runtime"]["workflow_manifest"] = json.dumps(manifest)
    return read_workflow(told, specification_of(told))


def by_name(tasks: list[RunTask]) -> dict[str, RunTask]:
    found = {task.name: task for task in tasks}
    assert len(found) == len(tasks)
    return found


def test_a_large_run_is_complete_though_the_servers_own_list_is_not() -> None:
    assert "compressedNodes" in workflow("run-six-seeds")["status"]
    frozen = answer("run-six-seeds")["run_details"]["task_details"]
    assert len(frozen) == 115
    assert all("pod_name" not in one for one in frozen)
    tasks = by_name(run_tasks(recorded("run-six-seeds")))
    trials = [
        f"{stage} {arm} seed {seed}"
        for arm in ("sgd-l2", "adamw")
        for seed in range(6)
        for stage in ("train", "evaluate")
    ]
    assert set(tasks) == {"prepare", *trials, "collect sgd-l2", "collect adamw", "compare", "report"}
    assert {(task.state, task.attempts, len(task.pods)) for task in tasks.values()} == {("SUCCEEDED", 1, 1)}
    assert len({task.pods[0].name for task in tasks.values()}) == len(tasks)


def test_tasks_come_in_the_order_in_which_they_run() -> None:
    names = [task.name for task in run_tasks(recorded("run-failed"))]
    assert names == [
        "prepare",
        "train sgd-l2 seed 0",
        "evaluate sgd-l2 seed 0",
        "collect sgd-l2",
        "train adamw seed 0",
        "evaluate adamw seed 0",
        "collect adamw",
        "compare",
        "report",
    ]


def test_a_failure_has_its_attempts_its_pods_and_its_own_words() -> None:
    tasks = by_name(run_tasks(recorded("run-failed")))
    failed = tasks["train sgd-l2 seed 0"]
    assert (failed.state, failed.attempts) == ("FAILED", 3)
    assert failed.message is not None
    assert failed.message.startswith("minio://mlpipeline/v2/artifacts/optduel-digits/25bcff7a")
    assert "HTTP 403 Forbidden" in failed.message
    kept = nodes_of(workflow("run-failed"))
    for pod in failed.pods:
        # The archive's key holds the pod's name.
        (log,) = kept[pod.node]["outputs"]["artifacts"]
        assert log["s3"]["key"].split("/")[-2] == pod.name
        assert (pod.state, pod.has_told, pod.created) == ("FAILED", True, "2026-11-28")


def test_what_never_ran_is_not_waiting_for_anything() -> None:
    states = {task.name: task.state for task in run_tasks(recorded("run-failed"))}
    assert states.pop("prepare") == "SUCCEEDED"
    assert states.pop("train sgd-l2 seed 0") == "FAILED"
    assert set(states.values()) == {"NOT RUN"}


def test_a_cancelled_run_failed_nowhere() -> None:
    found = recorded("run-cancelled")
    assert found.is_cancelled
    states = [task.state for task in run_tasks(found)]
    assert states[:2] == ["SUCCEEDED", "CANCELLED"]
    assert set(states[2:]) == {"NOT RUN"}


def test_before_anything_runs_every_task_waits() -> None:
    tasks = run_tasks(changed("run-failed", phase="", nodes={}))
    assert {(task.state, task.attempts, task.message) for task in tasks} == {("WAITING", 0, None)}
    told = answer("run-failed-v1beta1")
    told["pipeline_runtime"] = {}
    assert {task.state for task in run_tasks(read_workflow(told, specification_of(told)))} == {"WAITING"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.", "Unschedulable: 0/1 nodes are"),
        ("ImagePullBackOff: Back-off pulling image", "ImagePullBackOff: Back-off pulling"),
        ("PodInitializing", None),
        ("ContainerCreating", None),
    ],
)
@pytest.mark.parametrize("where", ["executor(2)", "train-driver(0)"])
def test_a_pod_that_cannot_start_says_why(message: str, told: str | None, where: str) -> None:
    nodes = nodes_of(workflow("run-failed"))
    kept = {}
    for identifier, node in nodes.items():
        if node["phase"] == "Omitted":
            continue
        is_after = (
            where.startswith("train-driver") and ".train(" in node["name"] or node["name"].endswith(".train")
        )
        if is_after and where.startswith("train-driver"):
            continue
        running = node["phase"] == "Failed" and node["type"] != "Pod"
        kept[identifier] = node | ({"phase": "Running"} if running else {})
        if node["displayName"] == where:
            kept[identifier] |= {"phase": "Pending", "message": message}
    task = by_name(run_tasks(changed("run-failed", phase="Running", nodes=kept)))["train sgd-l2 seed 0"]
    assert task.state == "PENDING"
    assert (task.message is None) if told is None else str(task.message).startswith(told)


def test_nodes_that_are_kept_elsewhere_are_no_empty_run() -> None:
    with pytest.raises(ClusterError, match="nodeStatusOffLoad = true"):
        changed("run-failed", nodes={}, offloadNodeStatusVersion="fnv:1")


def test_damaged_nodes_are_told() -> None:
    with pytest.raises(ClusterError, match="compressedNodes: cannot be read"):
        changed("run-six-seeds", compressedNodes="H4sIAAAA")


def test_recorded_sizes() -> None:
    """What the README of the recordings says of them."""
    assert len(nodes_of(workflow("run-six-seeds"))) == 262
    assert len(dense(nodes_of(workflow("run-six-seeds")))) > 2_000_000

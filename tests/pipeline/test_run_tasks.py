"""What is read out of the nodes of a run's workflow."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from optduel.pipeline.kfp.run_tasks import run_tasks

CODE = {"executorLabel": "exec-train"}


def task(component: str, **more: Any) -> dict[str, Any]:
    return {"componentRef": {"name": component}, "taskInfo": {"name": component}, **more}


LOOP = task("loop", parameterIterator={"items": {"raw": "[3, 5]"}})
SPECIFICATION = {
    "root": {"dag": {"tasks": {"prepare": task("prepare"), "for-loop-2": LOOP}}},
    "components": {"prepare": CODE, "train": CODE, "loop": {"dag": {"tasks": {"train": task("train")}}}},
}


def node(
    number: int, name: str, children: Sequence[int] = (), state: str = "RUNNING", pod: bool = False
) -> Any:
    kind = "impl-" if pod else ""
    return SimpleNamespace(
        display_name=name,
        pod_name=f"run-{kind}{number}",
        child_tasks=[SimpleNamespace(pod_name=f"run-{child}") for child in children],
        create_time=f"{number:02d}",
        start_time=f"{number:02d}",
        state=state,
        task_id=str(number),
    )


def test_attempts_are_counted_through_a_dag_that_was_begun_again() -> None:
    nodes = [
        node(1, "prepare", [2, 6]),
        node(2, "prepare(0)", [3]),
        node(3, "executor", [4, 5]),
        node(5, "executor(1)", pod=True),
        node(4, "executor(0)", pod=True),
        node(6, "prepare(1)", [7]),
        node(7, "executor", [8]),
        node(8, "executor(0)", pod=True),
    ]
    (found,) = run_tasks(nodes, SPECIFICATION)
    assert (found.name, found.attempts, found.pod) == ("prepare", 3, "run-impl-8")


@pytest.mark.parametrize("first", ["prepare(0)", "executor"])
def test_a_task_whose_pod_is_not_there_yet_has_none(first: str) -> None:
    nodes = [node(1, "prepare", [2]), node(2, first)]
    (found,) = run_tasks(nodes[:1], SPECIFICATION)
    assert (found.attempts, found.pod) == (1, None)
    (found,) = run_tasks(nodes, SPECIFICATION)
    assert found.attempts == 1


def test_what_comes_after_a_task_is_none_of_its_attempts() -> None:
    nodes = [
        node(1, "prepare", [2]),
        node(2, "executor", [3, 4]),
        node(3, "executor(0)", pod=True),
        node(4, "executor(10)", [5], pod=True),
        node(5, "for-loop-2-driver", [6]),
        node(6, "for-loop-2-driver(0)", [7], pod=True),
        node(7, "for-loop-2"),
    ]
    (found,) = run_tasks(nodes, SPECIFICATION)
    assert (found.attempts, found.pod) == (2, "run-impl-4")


def test_an_iteration_is_found_through_its_retry_nodes() -> None:
    nodes = [
        node(1, "for-loop-2", [2, 11]),
        node(2, "for-loop-2(0)", [3]),
        node(11, "for-loop-2(1)", [12]),
        node(3, "iteration-item(0:3)", [4]),
        node(4, "iteration-item(0:3)(0)", [5]),
        node(5, "train", [6]),
        node(6, "train(0)", [7]),
        node(7, "executor", [8]),
        node(8, "executor(0)", pod=True),
        node(12, "iteration-item(1:5)", [13, 14]),
        node(13, "iteration-item(1:5)(0)"),
        node(14, "iteration-item(1:5)(1)", [15]),
        node(15, "train-driver", [16, 17], state="FAILED"),
        node(16, "train-driver(0)", state="FAILED", pod=True),
        node(17, "train-driver(1)", state="FAILED", pod=True),
    ]
    first, second = run_tasks(nodes, SPECIFICATION)
    assert (first.name, first.attempts, first.pod) == ("train seed 3", 1, "run-impl-8")
    assert (second.name, second.attempts, second.pod) == ("train seed 5", 2, "run-impl-17")

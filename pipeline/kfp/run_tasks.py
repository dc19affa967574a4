"""What a run's tasks are called and how they are doing, read out of what Kubeflow Pipelines tells of a run.

KFP 2.17 lists the nodes of the Argo Workflow: a task `train` of the pipeline is a node `train-driver` that
resolves its inputs and a node `train` around an `executor`, whose pod runs the code; a loop's iterations are
nodes whose names end in `(INDEX:ITEM)`. Any of them that has a retry strategy, on a stock installation all,
is a Retry node, whose children are its attempts: `executor(0)`, `executor(1)`, ..., or `train(0)`. A node's
children are told by names that end in the node's number, as its pod's name does.
"""

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ITERATION = re.compile(r"\((\d+):")

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
"""States that a run or a task stays in."""


@dataclass(frozen=True)
class RunTask:
    """A task of a run, once for each seed.

    Attributes:
        name: what people call it: the stage, the arm, the seed.
        state: PENDING, RUNNING, SUCCEEDED, FAILED, ...
        pod: that runs or ran its code, the last attempt's; None while there is none.
        attempts: how often it was started.
        node: tells tasks apart that have one name.
    """

    name: str
    state: str
    pod: str | None
    attempts: int
    node: str


@dataclass(frozen=True)
class _Planned:
    """A task as the pipeline has it: the name that is shown, and the seeds of the loop around it."""

    shown: str
    seeds: tuple[Any, ...] | None


def run_tasks(nodes: Sequence[Any], specification: Mapping[str, Any]) -> list[RunTask]:
    """The tasks of a run that have begun, in the order of their beginning.

    Args:
        nodes: `run_details.task_details` of a run.
        specification: the pipeline's, as KFP returns it with a version.
    """
    planned = _planned(specification.get("pipeline_spec") or specification)
    graph = _Graph(nodes)
    found = []
    for node in sorted(nodes, key=lambda node: (str(node.create_time), str(node.start_time))):
        name = node.display_name
        task = planned.get(name)
        if task is not None:
            pods = graph.executors(node)
            state = node.state or "PENDING"
        elif name.endswith("-driver") and node.state == "FAILED":
            # The task itself never begins.
            task, pods, state = planned.get(name.removesuffix("-driver")), graph.attempts(node), node.state
        if task is None:
            continue
        index = graph.iteration(node) if task.seeds else None
        seed = f" seed {task.seeds[index]}" if task.seeds and index is not None else ""
        pod = pods[-1].pod_name if pods else None
        found.append(RunTask(f"{task.shown}{seed}", state, pod, max(1, len(pods)), node.task_id or ""))
    return found


def _planned(specification: Mapping[str, Any]) -> dict[str, _Planned]:
    """The tasks that run code, by the name that is unique in the pipeline."""
    components = specification.get("components", {})
    found: dict[str, _Planned] = {}
    waiting: list[tuple[Any, tuple[Any, ...] | None]] = [(specification.get("root", {}), None)]
    while waiting:
        component, seeds = waiting.pop()
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            inner = components.get(task["componentRef"]["name"], {})
            if "dag" not in inner:
                found[name] = _Planned(task.get("taskInfo", {}).get("name", name), seeds)
                continue
            items = task.get("parameterIterator", {}).get("items", {}).get("raw")
            waiting.append((inner, tuple(json.loads(items)) if items else seeds))
    return found


class _Graph:
    """The nodes and what follows what: a child is a part of its parent or comes after it."""

    def __init__(self, nodes: Sequence[Any]) -> None:
        self._nodes = {_number(node.pod_name): node for node in nodes if node.pod_name}
        self._children: dict[str, list[str]] = {}
        self._parents: dict[str, list[str]] = {}
        for number, node in self._nodes.items():
            children = [_number(child.pod_name) for child in node.child_tasks or () if child.pod_name]
            self._children[number] = [child for child in children if child in self._nodes]
            for child in self._children[number]:
                self._parents.setdefault(child, []).append(number)

    def executors(self, node: Any) -> list[Any]:
        """The pods that run a task's code, in the order of their attempts."""
        return [
            pod
            for part in self.attempts(node)
            for executor in self._children_of(part)
            if executor.display_name == "executor"
            for pod in self.attempts(executor)
        ]

    def attempts(self, node: Any) -> list[Any]:
        """What a Retry node stands for, in order; any other node stands for itself."""
        name = re.compile(re.escape(node.display_name) + r"\((\d+)\)")
        children = self._children_of(node)
        found = {int(match[1]): child for child in children if (match := name.fullmatch(child.display_name))}
        return [found[attempt] for attempt in sorted(found)] or [node]

    def iteration(self, node: Any) -> int | None:
        """The index of the loop's iteration that the node is in."""
        waiting = deque([_number(node.pod_name)] if node.pod_name else [])
        seen = set(waiting)
        while waiting:
            number = waiting.popleft()
            if number in self._nodes and (found := _ITERATION.search(self._nodes[number].display_name)):
                return int(found[1])
            for parent in self._parents.get(number, ()):
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return None

    def _children_of(self, node: Any) -> list[Any]:
        number = _number(node.pod_name) if node.pod_name else ""
        return [self._nodes[child] for child in self._children.get(number, ())]


def _number(pod_name: str) -> str:
    return pod_name.rpartition("-")[2]

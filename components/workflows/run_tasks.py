"""What a run's tasks are called and how they are doing, read out of its Argo Workflow.

This is the only place that knows how Kubeflow Pipelines executes a pipeline. Its own list, `task_details`,
is no source: it lacks pods' names, and stays as it is once a Workflow is large. The Workflow is complete at
every size; Argo packs its nodes above 1 MB. A node's name is its place: in the node of a pipeline are, for
each task, `TASK-driver`, which resolves the task's inputs, and `TASK`; in that is `executor`, whose pod runs
the code. A node that has a retry strategy, on a stock installation every one, stands for its attempts
`NAME(0)`, `NAME(1)`, ... A loop has a node `iteration-iterations(INDEX:INDEX)` for each iteration. A task
that runs whatever becomes of another one is in that one's `onExit`.

Nothing here, and nothing else in optduel, asks ML Metadata, which a coming server lacks. The components rely
on two things that the driver writes with its help: an artifact's `uri`, and its place in `outputs`.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from optduel.components.core import ClusterError, decode_termination
from optduel.components.decoding import parse_json, parse_object

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED"})
"""States that a run stays in."""

LARGEST_NODES = 256 * 1024 * 1024
"""Bytes of an unpacked list of nodes; of 2,000 tasks it has less than a half."""

_ATTEMPT = re.compile(r"\((\d+)\)$")
_PODS_ERROR = re.compile(r"^\w+: Error \(exit code \d+\)(: )?")
"""Argo's words before those that a container has left."""

_STARTING = frozenset({"PodInitializing", "ContainerCreating", ""})
"""Why a pod waits when nothing is wrong."""

_ENDED = frozenset({"Succeeded", "Failed", "Error"})

Place = tuple[str, ...]
"""Names of nodes, from the root on, without attempts."""


@dataclass(frozen=True)
class Pod:
    """A pod of a task: one attempt.

    Attributes:
        node: its identifier in the Workflow.
        name: the pod's.
        state: PENDING, RUNNING, SUCCEEDED or FAILED.
        message: why it waits or has failed, in the words of the task's code where it has left any.
        has_told: whether the message is the code's own.
        created: the day, as YYYY-MM-DD.
    """

    node: str
    name: str
    state: str
    message: str | None
    has_told: bool
    created: str


@dataclass(frozen=True)
class RunTask:
    """A task of a run.

    Attributes:
        name: what people call it: the stage, the arm, the seeds.
        state: WAITING for its turn, PENDING while its pod cannot start, RUNNING, SUCCEEDED, FAILED, CANCELLED
            with its run, or NOT RUN because the run has ended before.
        attempts: how often its code was started.
        message: why it waits or has failed, if the cluster tells.
        pods: of its code, in the order of its attempts; of its driver where that has failed.
    """

    name: str
    state: str
    attempts: int
    message: str | None
    pods: tuple[Pod, ...]


@dataclass(frozen=True)
class Workflow:
    """A run as Argo executes it.

    Attributes:
        name: of the Workflow; empty before there is one.
        namespace: of its pods.
        has_ended: whether nothing changes any more.
        is_cancelled: whether somebody has asked for its end.
        nodes: by place, in the order of their beginning.
        specification: the pipeline's.
    """

    name: str
    namespace: str
    has_ended: bool
    is_cancelled: bool
    nodes: Mapping[Place, Sequence[Mapping[str, Any]]]
    specification: Mapping[str, Any]


def specification_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pipeline that a run executes; it stays the same, and is slow to read.

    Args:
        answer: of `GET /apis/v1beta1/runs/ID`, decoded.
    """
    text = answer.get("run", {}).get("pipeline_spec", {}).get("pipeline_manifest") or "{}"
    specification: Mapping[str, Any] = next(yaml.load_all(text, yaml.CSafeLoader))
    return specification


def read_workflow(answer: Mapping[str, Any], specification: Mapping[str, Any]) -> Workflow:
    """How a run does.

    Args:
        answer: of `GET /apis/v1beta1/runs/ID`, decoded.
        specification: what `specification_of` found in an answer about this run.

    Raises:
        ClusterError: its nodes are kept elsewhere, or cannot be unpacked.
    """
    text = answer.get("pipeline_runtime", {}).get("workflow_manifest")
    try:
        manifest = parse_object(text) if text else {}
    except ValueError as error:
        raise ClusterError(f"workflow_manifest: cannot be read: {error}; try again") from error
    status, spec, metadata = (manifest.get(part) or {} for part in ("status", "spec", "metadata"))
    nodes: dict[Place, list[Mapping[str, Any]]] = {}
    for node in sorted(_nodes(status).values(), key=lambda node: (node.get("startedAt") or "", node["name"])):
        nodes.setdefault(_place(node["name"]), []).append(node)
    return Workflow(
        name=metadata.get("name", ""),
        namespace=metadata.get("namespace", ""),
        has_ended=status.get("phase") in _ENDED,
        is_cancelled=spec.get("activeDeadlineSeconds") == 0,
        nodes=nodes,
        specification=specification,
    )


def run_tasks(workflow: Workflow) -> list[RunTask]:
    """All tasks of a run that run code, in an order in which they may run."""
    root = workflow.specification.get("root", {})
    return [_task(workflow, place, shown) for place, shown in _planned(workflow, root, ("root",), "")]


def _nodes(status: Mapping[str, Any]) -> Mapping[str, Any]:
    if status.get("offloadNodeStatusVersion"):
        raise ClusterError(
            "nodeStatusOffLoad = true: Argo keeps the state of large runs in a database of its own, where "
            "Kubeflow Pipelines does not look; set it to false in the ConfigMap workflow-controller-configmap"
        )
    packed = status.get("compressedNodes")
    if not packed:
        return status.get("nodes") or {}
    try:
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        text = unpacking.decompress(base64.b64decode(packed), LARGEST_NODES)
        nodes: dict[str, Any] = parse_object(text)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ClusterError(f"compressedNodes: cannot be read: {error}; try again") from error
    return nodes


def _place(name: str) -> Place:
    # The first name is the Workflow's.
    return tuple(_ATTEMPT.sub("", part) for part in name.split(".")[1:])


def _planned(
    workflow: Workflow, component: Mapping[str, Any], place: Place, which: str
) -> Iterator[tuple[Place, str]]:
    """Where each task is, and the name that is shown for it."""
    components = workflow.specification.get("components", {})
    for name, task in _in_order(component.get("dag", {}).get("tasks", {})):
        inner = components.get(task["componentRef"]["name"], {})
        here = (*place, name)
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
            (watched,) = task["dependentTasks"]
            here = (*place, watched, "onExit", name)
        if "dag" not in inner:
            yield here, task.get("taskInfo", {}).get("name", name) + which
        elif items := task.get("parameterIterator", {}).get("items", {}).get("raw"):
            for index, item in enumerate(_items(items)):
                iteration = (*here, f"iteration-iterations({index}:{index})", "iteration-item")
                # A search is divided among tasks; other loops are over seeds.
                told = task.get("taskInfo", {}).get("name", name)
                inner_which = f" part {index + 1}" if told.endswith("-settings") else f" seed {item}"
                yield from _planned(workflow, inner, iteration, inner_which)
        else:
            yield from _planned(workflow, inner, here, which)


def _items(text: str) -> list[Any]:
    try:
        items = parse_json(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise ClusterError("parameterIterator: is no list of items; try again")
    return items


def _in_order(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A DAG's tasks, each after those that it depends on, soon after the last of them; else by number."""
    waiting = dict(sorted(tasks.items(), key=lambda task: (len(task[0]), task[0])))
    done: dict[str, int] = {}

    def rank(name: str) -> int:
        before = waiting[name].get("dependentTasks", ())
        return max((done[one] for one in before), default=-1)

    while waiting:
        ready = [name for name in waiting if done.keys() >= set(waiting[name].get("dependentTasks", ()))]
        name = max(ready, key=rank)
        done[name] = len(done)
        yield name, waiting.pop(name)


def _task(workflow: Workflow, place: Place, shown: str) -> RunTask:
    """How a task does, by its own nodes."""
    driver = (*place[:-1], f"{place[-1]}-driver")
    phase = _phase(workflow, place)
    pods = _pods(workflow, (*place, "executor"))
    attempts = len(pods)
    if not pods and _phase(workflow, driver) in ("Failed", "Error"):
        phase, pods = "Failed", _pods(workflow, driver)
    last = pods[-1] if pods else None
    message: str | None = None
    match phase:
        case "Succeeded":
            state = "SUCCEEDED"
        case "Failed" | "Error":
            state = "CANCELLED" if workflow.is_cancelled else "FAILED"
            message = last.message if last else None
        case "Running" | "Pending" if not workflow.has_ended:
            waits = last is None or last.state == "PENDING"
            state, message = ("PENDING", last.message if last else None) if waits else ("RUNNING", None)
        case None if not workflow.has_ended:
            # What keeps its driver from starting keeps the task.
            message = next((pod.message for pod in _pods(workflow, driver) if pod.state == "PENDING"), None)
            state = "PENDING" if driver in workflow.nodes else "WAITING"
        case _:
            state = "NOT RUN"
    return RunTask(shown, state, attempts, message, tuple(pods))


def _phase(workflow: Workflow, place: Place) -> str | None:
    """Of the node that stands for all attempts: it has the shortest name."""
    nodes = workflow.nodes.get(place)
    return min(nodes, key=lambda node: len(node["name"])).get("phase", "Pending") if nodes else None


def _pods(workflow: Workflow, place: Place) -> list[Pod]:
    return [_pod(workflow, node) for node in workflow.nodes.get(place, ()) if node["type"] == "Pod"]


def _pod(workflow: Workflow, node: Mapping[str, Any]) -> Pod:
    state = {"Succeeded": "SUCCEEDED", "Failed": "FAILED", "Error": "FAILED", "Running": "RUNNING"}
    words = node.get("message", "")
    termination = decode_termination(_PODS_ERROR.sub("", words))
    message = None if words.partition(":")[0] in _STARTING else words
    # Argo names a pod after the Workflow, the template and the number that ends the node's identifier.
    number = node["id"].rpartition("-")[2]
    return Pod(
        node=node["id"],
        name=f"{workflow.name}-{node['templateName']}-{number}",
        state=state.get(node.get("phase", "Pending"), "PENDING"),
        message=str(termination.error) if termination else message,
        has_told=termination is not None,
        created=(node.get("startedAt") or "")[:10],
    )

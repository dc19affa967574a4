"""A pipeline as the Argo Workflow that Kubeflow Pipelines 2.17 makes of it, far enough to show its states."""

import email
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Object = dict[str, Any]


def read_package(content: bytes) -> Object:
    """The pipeline in an uploaded form, checked against KFP's schema, as the server returns it."""
    boundary = content.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    head = f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n".encode()
    (part,) = email.message_from_bytes(head + content).get_payload()  # type: ignore[misc]
    assert part.get_param("name", header="content-disposition") == "uploadfile"  # type: ignore[union-attr]
    documents = list(yaml.safe_load_all(part.get_payload(decode=True)))  # type: ignore[union-attr, arg-type]
    json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    if len(documents) == 1:
        return dict(documents[0])
    json_format.ParseDict(documents[1], pipeline_spec_pb2.PlatformSpec())
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


@dataclass
class Node:
    """A node of the workflow.

    Attributes:
        children: what is in it, or what comes after it: that is a child of the `last` part of a node.
        name: as it is displayed.
        number: at the end of its identifier, and of its pod's name.
    """

    name: str
    number: int
    created: str
    is_pod: bool = False
    state: str = "PENDING"
    children: list["Node"] = field(default_factory=list)
    part: "Node | None" = None

    @property
    def last(self) -> "Node":
        return self.part.last if self.part else self


class Workflow:
    """Nodes appear and move on one step at a time.

    Args:
        specification: the pipeline's.
        failing: tasks that fail, by the name that is unique in the pipeline, and how many attempts of them;
            at the limit of its retries the task, hence the run, has failed.
        now: the time, later at every call.
    """

    def __init__(self, specification: Object, failing: dict[str, int], now: Callable[[], str]) -> None:
        self.spec = specification.get("pipeline_spec", specification)
        self.failing = dict(failing)
        self.now = now
        self.nodes: list[Node] = []
        self.state = "PENDING"
        self._steps = self._run()

    def step(self) -> None:
        """Lets one thing happen."""
        if self.state in ("PENDING", "RUNNING"):
            self.state = next(self._steps, self.state)

    def details(self) -> list[Object]:
        """The nodes as `run_details.task_details` shows them."""
        return [
            {
                "task_id": f"task-{node.number}",
                "display_name": node.name,
                "create_time": node.created,
                "start_time": node.created,
                "state": node.state,
                "pod_name": self.pod_name(node),
                "child_tasks": [{"pod_name": f"optduel-x7k2p-{child.number}"} for child in node.children],
            }
            for node in self.nodes
        ]

    def pod_name(self, node: Node) -> str:
        kind = "system-container-impl-" if node.is_pod else ""
        return f"optduel-x7k2p-{kind}{node.number}"

    def pod(self, task: str, iteration: int = 0, attempt: int = 0) -> str:
        """The name of the pod of a task's attempt."""
        tasks = [node for node in self.nodes if node.name == task]
        (executor,) = tasks[iteration].children
        pods = [node for node in executor.children if node.name.startswith("executor")] or [executor]
        return self.pod_name(pods[attempt])

    def _node(self, name: str, after: Node | None, is_pod: bool = False) -> Node:
        node = Node(name, 1000 + 37 * len(self.nodes), self.now(), is_pod)
        self.nodes.append(node)
        if after is not None:
            after.children.append(node)
        return node

    def _run(self) -> Any:
        root = self._node("optduel-x7k2p", None)
        driver = self._node("root-driver", root, is_pod=True)
        driver.state = "SUCCEEDED"
        dag = self._node("root", driver)
        dag.state = root.state = "RUNNING"
        yield "RUNNING"
        ended = yield from self._dag(self.spec["root"], dag)
        dag.state = root.state = ended
        yield ended

    def _dag(self, component: Object, parent: Node) -> Any:
        """Runs tasks in an order that their dependencies allow; yields after every change."""
        waiting = dict(component["dag"]["tasks"])
        done: dict[str, Node] = {}
        while waiting:
            name = next(
                name for name, task in waiting.items() if set(task.get("dependentTasks", ())) <= set(done)
            )
            task = waiting.pop(name)
            before = [done[one] for one in task.get("dependentTasks", ())] or [parent]
            driver = self._node(f"{name}-driver", before[-1].last, is_pod=True)
            driver.state = "SUCCEEDED"
            node = done[name] = parent.part = self._node(name, driver)
            node.state = "RUNNING"
            yield "RUNNING"
            inner = self.spec["components"][task["componentRef"]["name"]]
            if "dag" in inner:
                node.state = yield from self._loop(task, inner, node)
            else:
                node.state = yield from self._task(name, task, node)
            yield "RUNNING"
            if node.state == "FAILED":
                return "FAILED"
        return "SUCCEEDED"

    def _loop(self, task: Object, inner: Object, node: Node) -> Any:
        items = json.loads(task["parameterIterator"]["items"]["raw"])
        for index, item in enumerate(items):
            iteration = self._node(f"iteration-item({index}:{item})", node)
            iteration.state = "RUNNING"
            node.part = iteration
            iteration.state = yield from self._dag(inner, iteration)
            if iteration.state == "FAILED":
                return "FAILED"
        return "SUCCEEDED"

    def _task(self, name: str, task: Object, node: Node) -> Any:
        retries = task.get("retryPolicy", {}).get("maxRetryCount", 0)
        executor = self._node("executor", node, is_pod=not retries)
        for attempt in range(retries + 1):
            pod = self._node(f"executor({attempt})", executor, is_pod=True) if retries else executor
            node.part = pod
            executor.state = pod.state = "RUNNING"
            yield "RUNNING"
            if not self.failing.get(name):
                executor.state = pod.state = "SUCCEEDED"
                return "SUCCEEDED"
            self.failing[name] -= 1
            pod.state = "FAILED"
        executor.state = "FAILED"
        return "FAILED"

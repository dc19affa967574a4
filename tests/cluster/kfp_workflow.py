"""A pipeline as the Argo Workflow that Kubeflow Pipelines 2.17 makes of it, far enough to show its states."""

import email
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Object = dict[str, Any]

STOCK_RETRIES = 2
"""Of every node, where Argo is told so by `templateDefaults`, as by a stock installation."""


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

    @property
    def attempts(self) -> list["Node"]:
        """What a Retry node stands for; other nodes stand for themselves."""
        return [child for child in self.children if child.name.startswith(f"{self.name}(")] or [self]


class Workflow:
    """Nodes appear and move on one step at a time.

    Args:
        specification: the pipeline's.
        failing: tasks and drivers that fail, by the name that is unique in the pipeline, and how many
            attempts of them; at the limit of its retries the task, hence the run, has failed.
        now: the time, later at every call.
        stock: whether a Retry node stands around every node, DAGs and drivers included.
    """

    def __init__(
        self, specification: Object, failing: dict[str, int], now: Callable[[], str], stock: bool = False
    ) -> None:
        self.spec = specification.get("pipeline_spec", specification)
        self.failing = dict(failing)
        self.now = now
        self.stock = stock
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
        """The name of the pod of an attempt of a task or a driver."""
        node = [node for node in self.nodes if node.name == task][iteration]
        if not task.endswith("-driver"):
            (node,) = node.attempts[-1].children
        return self.pod_name(node.attempts[attempt])

    def _node(self, name: str, after: Node | None, is_pod: bool = False) -> Node:
        node = Node(name, 1000 + 37 * len(self.nodes), self.now(), is_pod)
        self.nodes.append(node)
        if after is not None:
            after.children.append(node)
        return node

    def _attempt(self, node: Node, attempt: int, is_retried: bool, is_pod: bool = False) -> Node:
        """A node's next attempt: a part of it, or itself where nothing is retried."""
        if is_retried:
            node.part = self._node(f"{node.name}({attempt})", node, is_pod)
        return node.part or node

    def _run(self) -> Any:
        outer = self._node("optduel-x7k2p", None)
        root = self._attempt(outer, 0, self.stock)
        driver = self._driver("root", root)
        node = self._node("root", driver.last)
        dag = self._attempt(node, 0, self.stock)
        nodes = (outer, root, node, dag)
        set_state(nodes, "RUNNING")
        yield "RUNNING"
        ended = yield from self._dag(self.spec["root"], dag)
        set_state(nodes, ended)
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
            driver = self._driver(name, before[-1].last)
            if driver.state == "FAILED":
                return "FAILED"
            node = done[name] = parent.part = self._node(name, driver.last)
            dag = self._attempt(node, 0, self.stock)
            set_state((node, dag), "RUNNING")
            yield "RUNNING"
            inner = self.spec["components"][task["componentRef"]["name"]]
            if "dag" in inner:
                ended = yield from self._loop(task, inner, dag)
            else:
                ended = yield from self._task(name, task, dag)
            set_state((node, dag), ended)
            yield "RUNNING"
            if ended == "FAILED":
                return "FAILED"
        return "SUCCEEDED"

    def _driver(self, name: str, after: Node) -> Node:
        driver = self._node(f"{name}-driver", after, is_pod=not self.stock)
        for attempt in range(STOCK_RETRIES + 1 if self.stock else 1):
            pod = self._attempt(driver, attempt, self.stock, is_pod=True)
            set_state((driver, pod), "FAILED" if self._fails(driver.name) else "SUCCEEDED")
            if pod.state == "SUCCEEDED":
                break
        return driver

    def _loop(self, task: Object, inner: Object, node: Node) -> Any:
        items = json.loads(task["parameterIterator"]["items"]["raw"])
        for index, item in enumerate(items):
            iteration = node.part = self._node(f"iteration-item({index}:{item})", node)
            dag = self._attempt(iteration, 0, self.stock)
            set_state((iteration, dag), "RUNNING")
            ended = yield from self._dag(inner, dag)
            set_state((iteration, dag), ended)
            if ended == "FAILED":
                return "FAILED"
        return "SUCCEEDED"

    def _task(self, name: str, task: Object, node: Node) -> Any:
        retries = task.get("retryPolicy", {}).get("maxRetryCount", STOCK_RETRIES if self.stock else 0)
        executor = node.part = self._node("executor", node, is_pod=not retries)
        for attempt in range(retries + 1):
            pod = self._attempt(executor, attempt, bool(retries), is_pod=True)
            set_state((executor, pod), "RUNNING")
            yield "RUNNING"
            if not self._fails(name):
                set_state((executor, pod), "SUCCEEDED")
                return "SUCCEEDED"
            pod.state = "FAILED"
        executor.state = "FAILED"
        return "FAILED"

    def _fails(self, name: str) -> bool:
        """Whether this attempt does."""
        left = self.failing.get(name, 0)
        self.failing[name] = max(0, left - 1)
        return left > 0


def set_state(nodes: Iterable[Node], state: str) -> None:
    """A Retry node is in the state of its attempt, unless another one follows."""
    for node in nodes:
        node.state = state

"""A run as the Argo Workflow that Kubeflow Pipelines 2.17 makes of it: its nodes, one change at a time."""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.cluster.kfp_argo import LARGE, SESSION, Compiled, Object, dense, packed, retries, runs_at_exit

STOCK_RETRIES = 2
"""Of every node, where Argo is told so by `templateDefaults`, as by a stock installation."""

UNREACHED = "omitted: depends condition not met"
EXIT_CODE = "main: Error (exit code 1)"

Changes = Iterator[None]


class Failed(Exception):
    """A part of the Workflow has failed."""


class Workflow:
    """Nodes appear and change one step at a time.

    Args:
        package: the pipeline, and its settings of Kubernetes if there are any.
        run_id: of the run.
        name: of the Workflow.
        now: the time, later at every call.
        failing: how many attempts of a task fail, by its display name; of its driver by `driver of NAME`.
        saying: Argo's message of a task's failed pod.
        pending: why a task's pod cannot start, for as long as it is here.
        stock: whether a Retry node stands around every node, DAGs and drivers included.
        root: of the run's artifacts.
        parameters: of the run.
        outputs: parameters that tasks hand on, by `task.output`.
    """

    def __init__(
        self,
        package: Object,
        run_id: str,
        name: str,
        now: Callable[[], str],
        failing: Mapping[str, int] = {},
        saying: Mapping[str, str] = {},
        pending: Mapping[str, str] = {},
        stock: bool = True,
        root: str = "minio://mlpipeline/v2/artifacts",
        parameters: Mapping[str, Any] = {},
        outputs: Mapping[str, str] = {},
    ) -> None:
        pipeline = package.get("pipeline_spec", package)
        self.compiled = Compiled(pipeline, package.get("platform_spec", {}))
        self.name = name
        self.nodes: dict[str, Object] = {}
        self.phase = ""
        self.is_cancelled = False
        self.pods: dict[str, list[Object]] = {}
        self._pipeline, self._run_id, self._now = pipeline, run_id, now
        self._failing, self._saying, self._pending = dict(failing), saying, pending
        self._stock, self._outputs = stock, outputs
        self._place = f"{root}/{pipeline['pipelineInfo']['name']}/{run_id}"
        definitions = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
        self._parameters = {key: one.get("defaultValue") for key, one in definitions.items()} | parameters
        self._execution = 100
        self._details: list[Object] = []
        self._written: dict[str, tuple[str, str]] = {}
        self._steps = self._run()
        self._spec = self.compiled.spec()

    # --- what is seen -------------------------------------------------------------------------------

    def step(self) -> None:
        """Lets one thing happen."""
        if self.phase in ("Succeeded", "Failed"):
            return
        try:
            next(self._steps)
        except (StopIteration, Failed):
            return

    def cancel(self) -> None:
        """Ends it as a deadline of 0 seconds does: what runs fails, what has not begun is left out."""
        self.is_cancelled = True
        for node in self.nodes.values():
            if node["phase"] in ("Running", "Pending"):
                node |= {"phase": "Failed", "finishedAt": self._now()}
                node["message"] = (
                    "main: Error (exit code 143)"
                    if node["type"] == "Pod"
                    else "retry exceeded workflow deadline 2026-11-28 13:52:22 +0000 UTC"
                )
        self.phase = "Failed"

    def manifest(self) -> Object:
        """The Workflow as it is kept, its nodes packed where it is large."""
        phase = {"phase": self.phase} if self.phase else {}
        spec = {**self._spec, **({"activeDeadlineSeconds": 0} if self.is_cancelled else {})}
        metadata = {"name": self.name, "namespace": "kubeflow", "labels": {"pipeline/runid": self._run_id}}
        found = {"metadata": metadata, "spec": spec, "status": {**phase, "nodes": self.nodes}}
        if sum(len(part) for part in self._parts()) > LARGE:
            found["status"] = {**phase, "compressedNodes": packed(self.nodes)}
        return found

    def text(self) -> str:
        """The same as it is sent."""
        return dense(self.manifest())

    def _parts(self) -> list[str]:
        """The nodes in JSON; only those that may change are written anew."""
        for identifier, node in self.nodes.items():
            if identifier not in self._written or self._written[identifier][0] != node["phase"]:
                self._written[identifier] = node["phase"], dense(node)
        return [text for _, text in self._written.values()]

    def details(self) -> list[Object]:
        """The nodes as `run_details.task_details` shows them: as they were before the Workflow was large."""
        if "nodes" in self.manifest()["status"]:
            self._details = [self._detail(node) for node in self.nodes.values()]
        return self._details

    def _detail(self, node: Object) -> Object:
        states = {"Succeeded": "SUCCEEDED", "Failed": "FAILED", "Running": "RUNNING", "Pending": "PENDING"}
        state = states.get(node["phase"])
        return {
            "run_id": self._run_id,
            "task_id": str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
            "display_name": node["displayName"],
            "create_time": node["startedAt"],
            "start_time": node["startedAt"],
            **({"state": state} if state else {}),
            "child_tasks": [{"pod_name": child} for child in node.get("children", ())],
        }

    def pod_name(self, node: Object) -> str:
        return f"{self.name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"

    def pod(self, task: str, attempt: int = -1) -> str:
        """The name of the pod of an attempt of a task, by its display name, or `driver of NAME`."""
        return self.pod_name(self.pods[task][attempt])

    # --- nodes ----------------------------------------------------------------------------------------

    def _node(self, name: str, kind: str, template: str, before: Object | None, **more: Any) -> Object:
        node: Object = {
            "id": self.name if name == self.name else f"{self.name}-{_fnv(name)}",
            "name": name,
            "displayName": name.rpartition(".")[2],
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self.name}",
            "phase": "Running",
            "boundaryID": f"{self.name}-{_fnv(name.rpartition('.')[0])}",
            "startedAt": self._now(),
            "finishedAt": None,
            "progress": "0/1",
            "resourcesDuration": {"cpu": 22, "memory": 1541},
            "nodeFlag": {"retried": True},
            **more,
        }
        self.nodes[node["id"]] = node
        if before is not None:
            before.setdefault("children", []).append(node["id"])
        return node

    def _around(
        self, name: str, kind: str, template: str, before: Object | None, **more: Any
    ) -> tuple[Object, ...]:
        """A node and, where everything is retried, its one attempt; the last of them holds what is inside."""
        if not self._stock:
            return (self._node(name, kind, template, before, **more),)
        outer = self._node(name, "Retry", template, before, **more)
        return outer, self._node(f"{name}(0)", kind, template, outer, **more)

    def _end(self, nodes: tuple[Object, ...], phase: str) -> None:
        for node in nodes:
            node |= {"phase": phase, "finishedAt": self._now(), "progress": "1/1"}

    # --- what happens -----------------------------------------------------------------------------------

    def _run(self) -> Changes:
        self.phase = "Running"
        outer = self._around(self.name, "DAG", "entrypoint", None)
        root = self._pipeline["root"]
        driver = yield from self._dag_driver(f"{outer[-1]['name']}.root-driver", root, {}, outer[-1])
        nodes = self._around(
            f"{outer[-1]['name']}.root", "DAG", "root", driver, **_inputs({"parent-dag-id": "1"})
        )
        try:
            yield from self._dag(root, nodes[-1], self._parameters, {})
        except Failed:
            self._end((*outer, *nodes), "Failed")
            self.phase = "Failed"
            raise
        self._end((*outer, *nodes), "Succeeded")
        self.phase = "Succeeded"

    def _dag(self, component: Object, node: Object, parameters: Object, artifacts: Object) -> Changes:
        """Runs a DAG's tasks, in an order that their dependencies allow."""
        tasks = component["dag"]["tasks"]
        at_exit = {one["dependentTasks"][0]: key for key, one in tasks.items() if runs_at_exit(one)}
        waiting = {key: one for key, one in tasks.items() if key not in at_exit.values()}
        made: Object = {}
        last: Object = node
        while waiting:
            key = next(key for key, one in waiting.items() if set(one.get("dependentTasks", ())) <= set(made))
            task = waiting.pop(key)
            inner = self.compiled.components[task["componentRef"]["name"]]
            given = self._parameters_of(task, parameters), self._artifacts_of(task, artifacts, made)
            name = f"{node['name']}.{key}"
            try:
                if not _holds(task, given[0]):
                    driver = yield from self._dag_driver(f"{name}-driver", inner, task, last)
                    told = {"phase": "Skipped", "message": "when 'false != false' evaluated false"}
                    self._node(name, "Skipped", task["componentRef"]["name"], driver, **told)
                    made[key] = {}
                elif "dag" not in inner:
                    last, made[key] = yield from self._task(name, task, inner, *given, last)
                elif "parameterIterator" in task:
                    made[key] = yield from self._loop(name, task, inner, *given, last)
                else:
                    made[key] = yield from self._nested(name, task, inner, *given, last)
            except Failed:
                for left in waiting:
                    for omitted in (f"{left}-driver", left):
                        told = {"phase": "Omitted", "message": UNREACHED}
                        self._node(f"{node['name']}.{omitted}", "Skipped", "none", None, **told)
                raise
            finally:
                if key in at_exit:
                    yield from self._at_exit(name, at_exit[key], tasks[at_exit[key]], parameters)

    def _at_exit(self, watched: str, key: str, task: Object, parameters: Object) -> Changes:
        """Argo's hook of a task that has ended; its failure fails nothing else."""
        shown = f"{watched.rpartition('.')[2]}.onExit"
        told = {"displayName": shown, **_inputs({"parent-dag-id": "2"})}
        nodes = self._around(f"{watched}.onExit", "DAG", f"exit-hook-root-{key}", None, **told)
        inner = self.compiled.components[task["componentRef"]["name"]]
        given = self._parameters_of(task, parameters)
        try:
            yield from self._task(f"{nodes[-1]['name']}.{key}", task, inner, given, {}, nodes[-1])
        except Failed:
            self._end(nodes, "Failed")
            return
        self._end(nodes, "Succeeded")

    def _nested(
        self, name: str, task: Object, inner: Object, parameters: Object, artifacts: Object, before: Object
    ) -> Iterator[None]:
        driver = yield from self._dag_driver(f"{name}-driver", inner, task, before)
        reference = task["componentRef"]["name"]
        nodes = self._around(name, "DAG", reference, driver, **_inputs({"parent-dag-id": "2"}))
        try:
            yield from self._dag(inner, nodes[-1], parameters, artifacts)
        except Failed:
            self._end(nodes, "Failed")
            raise
        self._end(nodes, "Succeeded")
        return {}

    def _loop(
        self, name: str, task: Object, inner: Object, parameters: Object, artifacts: Object, before: Object
    ) -> Iterator[None]:
        reference = task["componentRef"]["name"]
        loop = self._around(name, "DAG", f"{reference}-iterator", before, **_inputs({"parent-dag-id": "2"}))
        driver = yield from self._dag_driver(f"{loop[-1]['name']}.iteration-driver", inner, task, loop[-1])
        group = f"{loop[-1]['name']}.iteration-iterations"
        together = self._node(group, "TaskGroup", f"{reference}-iteration", driver)
        made: Object = {}
        for index, item in enumerate(json.loads(task["parameterIterator"]["items"]["raw"])):
            told = _inputs({"parent-dag-id": "195", "iteration-index": str(index)})
            place = f"{group}({index}:{index})"
            iteration = self._around(place, "DAG", f"{reference}-iteration", together, **told)
            given = parameters | {task["parameterIterator"]["itemInput"]: item}
            place = f"{iteration[-1]['name']}.iteration-item"
            driver = yield from self._dag_driver(f"{place}-driver", inner, task, iteration[-1])
            nodes = self._around(place, "DAG", reference, driver, **_inputs({"parent-dag-id": "197"}))
            try:
                yield from self._dag(inner, nodes[-1], given, artifacts)
            except Failed:
                self._end((*loop, together, *iteration, *nodes), "Failed")
                raise
            self._end((*iteration, *nodes), "Succeeded")
            for key, output in inner["dag"].get("outputs", {}).get("artifacts", {}).items():
                name_of = output["artifactSelectors"][0]["outputArtifactKey"]
                made.setdefault(key, []).extend(self._artifact("loop", name_of))
        self._end((*loop, together), "Succeeded")
        return made

    def _dag_driver(self, name: str, component: Object, task: Object, before: Object) -> Iterator[None]:
        told = _inputs(
            {"component": dense(component), "task": dense(task), "task-name": name, "parent-dag-id": "195"}
        )
        given = _outputs({"execution-id": "195", "iteration-count": "0", "condition": "nil"}, self.name)
        nodes = self._around(name, "Pod", "system-dag-driver", before, **told, **given)
        yield
        self._end(nodes, "Succeeded")
        return nodes[-1]

    def _task(
        self,
        name: str,
        task: Object,
        component: Object,
        parameters: Object,
        artifacts: Object,
        before: Object,
    ) -> Iterator[None]:
        key, shown = name.rpartition(".")[2], task["taskInfo"]["name"]
        self._execution += 1
        made, executor_input = self._executor_input(key, component, parameters, artifacts)
        patch = self.compiled.patch(self._run_id, component, executor_input, self._execution)
        told = {
            "component": dense(component),
            "task": dense(task),
            "container": dense(self.compiled.container(component)),
            "task-name": key,
            "parent-dag-id": "239",
            "iteration-index": "-1",
            "kubernetes-config": dense(self.compiled.settings(component)),
        }
        given = {"pod-spec-patch": patch, "cached-decision": "false", "condition": "nil"}
        more = {**_inputs(told), **_outputs(given, self.name)}
        driver = yield from self._attempts(
            f"{name}-driver",
            "system-container-driver",
            before,
            STOCK_RETRIES if self._stock else 0,
            f"driver of {shown}",
            more,
        )
        limits = retries(task)
        inside = _inputs({"pod-spec-patch": patch, "cached-decision": "false", **limits})
        nodes = self._around(name, "DAG", "retry-system-container-executor", driver, **inside)
        try:
            yield from self._attempts(
                f"{nodes[-1]['name']}.executor",
                "retry-system-container-impl",
                nodes[-1],
                int(limits["retry-max-count"]),
                shown,
                {**_inputs({"pod-spec-patch": patch, **limits}), **_outputs({}, self.name)},
            )
        except Failed:
            self._end(nodes, "Failed")
            raise
        self._end(nodes, "Succeeded")
        return nodes[-1], made

    def _attempts(
        self, name: str, template: str, before: Object, limit: int, told: str, more: Object
    ) -> Iterator[None]:
        """A pod, started again for as long as it fails and the limit allows."""
        if not limit:
            return (yield from self._pod(name, template, before, told, more))
        outer = self._node(name, "Retry", template, before, **more)
        for attempt in range(limit + 1):
            try:
                pod = yield from self._pod(f"{name}({attempt})", template, outer, told, more)
            except Failed:
                continue
            self._end((outer,), "Succeeded")
            return pod
        outer["message"] = "No more retries left"
        self._end((outer,), "Failed")
        raise Failed

    def _pod(self, name: str, template: str, before: Object, told: str, more: Object) -> Iterator[None]:
        pod = self._node(name, "Pod", template, before, **more)
        self.pods.setdefault(told, []).append(pod)
        while told in self._pending:
            pod |= {"phase": "Pending", "message": self._pending[told]}
            yield
        pod |= {"phase": "Running"}
        pod.pop("message", None)
        yield
        if self._failing.get(told, 0):
            self._failing[told] -= 1
            pod["message"] = self._saying.get(told, EXIT_CODE)
            self._end((pod,), "Failed")
            yield
            raise Failed
        self._end((pod,), "Succeeded")
        return pod

    # --- values -------------------------------------------------------------------------------------------

    def _parameters_of(self, task: Object, outer: Object) -> Object:
        found = {}
        for name, one in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in one:
                found[name] = outer.get(one["componentInputParameter"])
            elif "taskOutputParameter" in one:
                output = one["taskOutputParameter"]
                found[name] = self._outputs.get(
                    f"{output['producerTask']}.{output['outputParameterKey']}", ""
                )
            elif "taskFinalStatus" in one:
                found[name] = {
                    "state": "COMPLETE",
                    "pipelineTaskName": one["taskFinalStatus"]["producerTask"],
                }
            else:
                constant = one["runtimeValue"]["constant"]
                found[name] = self._run_id if constant == "{{$.pipeline_job_uuid}}" else constant
        return found

    def _artifacts_of(self, task: Object, outer: Object, made: Object) -> Object:
        found = {}
        for name, one in task.get("inputs", {}).get("artifacts", {}).items():
            if "componentInputArtifact" in one:
                found[name] = outer[one["componentInputArtifact"]]
            else:
                output = one["taskOutputArtifact"]
                found[name] = made[output["producerTask"]][output["outputArtifactKey"]]
        return found

    def _artifact(self, task: str, name: str) -> list[Object]:
        self._execution += 1
        place = f"{self._place}/{task}/{uuid.uuid5(uuid.NAMESPACE_OID, f'{self._run_id}{self._execution}')}"
        session = {"display_name": name, "store_session_info": dense(SESSION)}
        found = {"name": str(self._execution), "uri": f"{place}/{name}", "metadata": session}
        return [found | {"type": {"instanceSchema": ""}}]

    def _executor_input(
        self, task: str, component: Object, parameters: Object, artifacts: Object
    ) -> tuple[Object, Object]:
        definitions = component.get("outputDefinitions", {}).get("artifacts", {})
        made = {name: self._artifact(task, name) for name in definitions}
        place = f"{self._place}/{task}/{uuid.uuid5(uuid.NAMESPACE_OID, f'{self._run_id}{self._execution}')}"
        outputs = {
            name: {"artifacts": [{"name": name, "type": one["artifactType"], "uri": f"{place}/{name}"}]}
            for name, one in definitions.items()
        }
        for name, one in made.items():
            one[0]["uri"] = f"{place}/{name}"
        given = {"parameterValues": parameters}
        if artifacts:
            given["artifacts"] = {name: {"artifacts": one} for name, one in artifacts.items()}
        file = f"{place.replace('://', '/', 1)}/output_metadata.json"
        return made, {"inputs": given, "outputs": {"artifacts": outputs, "outputFile": f"/{file}"}}


def _holds(task: Object, parameters: Object) -> bool:
    """Whether a task's condition does: an output compared with a text, or the opposite."""
    condition = task.get("triggerPolicy", {}).get("condition")
    if condition is None:
        return True
    found = re.search(r"parameter_values\['([^']+)'\] == '([^']*)'", condition)
    assert found, condition
    return (parameters.get(found[1]) == found[2]) != condition.startswith("!")


def _inputs(values: Object) -> Object:
    return {"inputs": {"parameters": [{"name": name, "value": value} for name, value in values.items()]}}


def _outputs(values: Object, workflow: str) -> Object:
    parameters = [
        {"name": name, "value": value, "valueFrom": {"path": f"/tmp/outputs/{name}", "default": ""}}
        for name, value in values.items()
    ]
    key = f"private-artifacts/kubeflow/{workflow}/2026/11/28/{workflow}-retry-system-container-impl/main.log"
    return {
        "outputs": {
            **({"parameters": parameters} if parameters else {}),
            "artifacts": [{"name": "main-logs", "s3": {"key": key}}],
            "exitCode": "0",
        },
        "hostNodeName": "node1",
        "taskResultSynced": True,
    }


def _fnv(name: str) -> int:
    """Argo's hash of a node's name: FNV-1a of 32 bits."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    return number

"""What a cluster's controllers and kubelets do to training jobs, driven by a test."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from optduel.components.train.cluster.jobs import QUEUE
from tests.cluster.kubernetes_objects import Object, now
from tests.cluster.kubernetes_server import KubernetesServer

CASE_SECONDS = 30.0
"""No test waits longer for anything."""


class Cluster:
    """Plays Trainer, JobSet, training-operator, scheduler and kubelet for the jobs of one server.

    Args:
        server: whose objects are changed.
        plural: "trainjobs" or "tfjobs".
    """

    def __init__(self, server: KubernetesServer, plural: str = "trainjobs") -> None:
        self.server = server
        self.plural = plural
        self.container = "node" if plural == "trainjobs" else "tensorflow"

    # --- what the launcher has done -------------------------------------------------------------

    def jobs(self) -> list[Object]:
        """All there are."""
        return self.server.find(self.plural)

    def created(self) -> list[str]:
        """Names of the jobs that were really created, in order."""
        return [change.object["metadata"]["name"] for change in self.server.objects.created(self.plural)]

    def wait_for_job(self, count: int = 1) -> str:
        """Name of the newest job, when one is there that is the `count`th to be made."""

        def newest() -> str:
            found = [one["metadata"] for one in self.jobs() if int(_attempt(one)) >= count - 1]
            return found[-1]["name"] if found else ""

        return until(newest)

    def wait_until_watched(self, count: int = 2) -> None:
        """Returns when so many watches were opened: the launcher follows its job."""
        until(lambda: sum(request.verb == "watch" for request in self.server.requests) >= count)

    def workers(self, job: str) -> int:
        """How many the job asks for."""
        spec = next(one["spec"] for one in self.jobs() if one["metadata"]["name"] == job)
        return int(spec["trainer"]["numNodes"] if "trainer" in spec else _replicas(spec))

    # --- what a cluster does --------------------------------------------------------------------

    def make_pods(self, job: str, restart: int = 0, **status: Any) -> list[str]:
        """Makes a pod for each worker, pending; returns their names."""
        return [self._make_pod(job, index, restart, status) for index in range(self.workers(job))]

    def start(self, *pods: str) -> None:
        """The containers run."""
        for pod in pods:
            self.set_status(
                pod, phase="Running", containerStatuses=[self._container({"running": {"startedAt": now()}})]
            )

    def run(self, job: str, restart: int = 0) -> list[str]:
        """Makes pods, all of which run at once."""
        pods = self.make_pods(job, restart)
        self.start(*pods)
        return pods

    def end(self, pod: str, code: int = 0, *, report: Object | None = None, **details: Any) -> None:
        """The container ends; `report` is what our process writes of it, `details` what the kubelet says."""
        terminated = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": now()}
        if report:
            whole = {"stage": "train", "exit_code": code} | report
            terminated["message"] = json.dumps(whole)
        phase = "Failed" if code else "Succeeded"
        self.set_status(
            pod, phase=phase, containerStatuses=[self._container({"terminated": terminated | details})]
        )

    def stop_waiting(self, pod: str, reason: str, message: str) -> None:
        """The container cannot start, and why."""
        waiting = self._container({"waiting": {"reason": reason, "message": message}})
        self.set_status(pod, phase="Pending", containerStatuses=[waiting])

    def set_status(self, pod: str, **fields: Any) -> None:
        """Sets fields of a pod's status."""
        self.server.change("pods", pod, lambda kept: kept.setdefault("status", {}).update(fields))

    def set_condition(self, job: str, kind: str, reason: str = "", message: str = "") -> None:
        """Sets a condition of the job, whose other conditions of other types stay."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}

        def change(kept: Object) -> None:
            kept.setdefault("status", {}).setdefault("conditions", []).append(condition)

        self.server.change(self.plural, job, change)

    def complete(self, job: str, pods: list[str]) -> None:
        """All workers have succeeded."""
        for pod in pods:
            self.end(pod)
        self.set_condition(job, "Complete" if self.plural == "trainjobs" else "Succeeded")

    def fail(self, job: str, message: str = "jobset failed due to one or more job failures") -> None:
        """The controller gives the job up."""
        self.set_condition(job, "Failed", "JobSetFailed", message)

    def suspend(self, job: str, *, held: bool) -> None:
        """What a queue does."""

        def change(kept: Object) -> None:
            kept["spec"]["suspend"] = held
            status = {"type": "Suspended", "status": str(held), "reason": "Suspended", "message": ""}
            kept["status"] = {"conditions": [status]}

        self.server.change(self.plural, job, change)

    def warn(self, name: str, reason: str, message: str) -> None:
        """An event about an object."""
        event = {
            "metadata": {"generateName": f"{name}."},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "involvedObject": {"name": name},
            "lastTimestamp": now(),
        }
        self.server.add("events", event)

    def _make_pod(self, job: str, index: int, restart: int, status: Object) -> str:
        kept = next(one for one in self.jobs() if one["metadata"]["name"] == job)
        owner = {"kind": kept["kind"], "name": job, "uid": kept["metadata"]["uid"]}
        if self.plural == "trainjobs":
            name = f"{job}-node-0-{index}"
            labels = {
                "jobset.sigs.k8s.io/jobset-name": job,
                "jobset.sigs.k8s.io/restart-attempt": str(restart),
                "batch.kubernetes.io/job-completion-index": str(index),
            }
        else:
            name = f"{job}-worker-{index}"
            labels = {
                "training.kubeflow.org/job-name": job,
                "training.kubeflow.org/replica-index": str(index),
            }
        ours = {key: value for key, value in kept["metadata"]["labels"].items() if key != QUEUE}
        metadata = {
            "name": f"{name}-{restart}" if restart else name,
            "labels": ours | labels,
            "ownerReferences": [owner],
        }
        spec = {"containers": [{"name": self.container, "resources": {"limits": {"memory": "2Gi"}}}]}
        pod = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"} | status}
        return str(self.server.add("pods", pod)["metadata"]["name"])

    def _container(self, state: Object) -> Object:
        return {"name": self.container, "state": state}


def until(found: Callable[[], Any]) -> Any:
    """The first true result."""
    end = time.monotonic() + CASE_SECONDS
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.01)
    raise AssertionError(f"not within {CASE_SECONDS:g} s")


@contextlib.contextmanager
def meanwhile(play: Callable[[], None]) -> Iterator[None]:
    """Runs `play` beside the body; what it raises fails the test."""
    problems: list[BaseException] = []

    def act() -> None:
        try:
            play()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            problems.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield
    thread.join(5 * CASE_SECONDS)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


def _attempt(job: Object) -> str:
    return str(job["metadata"]["labels"]["optduel.io/attempt"])


def _replicas(spec: Object) -> int:
    return int(spec["tfReplicaSpecs"]["Worker"]["replicas"])

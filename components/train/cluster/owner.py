"""The Argo Workflow of this step: it owns the training job, and knows whether the run was cancelled."""

import contextlib
import os
import threading
from dataclasses import dataclass

from optduel.components.core import StopRequest
from optduel.components.kubernetes import (
    PODS,
    WORKFLOWS,
    Api,
    ApiFailure,
    JsonObject,
    NotFound,
    Unreachable,
    refused,
)

_POD_VARIABLE = "KFP_POD_NAME"
_WORKFLOW_LABEL = "workflows.argoproj.io/workflow"


@dataclass(frozen=True)
class OwnWorkflow:
    """A run of Kubeflow Pipelines."""

    name: str
    uid: str

    def reference(self) -> JsonObject:
        """Makes an object end with the Workflow.

        Not as its controller: Kueue would take the Workflow for the job that it has to admit.
        """
        return {
            "apiVersion": f"{WORKFLOWS.group}/{WORKFLOWS.version}",
            "kind": "Workflow",
            "name": self.name,
            "uid": self.uid,
            "controller": False,
            "blockOwnerDeletion": False,
        }

    def is_cancelled(self, api: Api, seconds: float) -> bool:
        """Whether the run was cancelled, or is gone; in one request of so many seconds.

        Kubeflow Pipelines ends a run by a deadline of 0, Argo by `spec.shutdown`.

        Raises:
            ApiFailure: it cannot be read.
            Unreachable: no answer in time.
        """
        try:
            spec = api.get_at_once(WORKFLOWS, self.name, seconds).get("spec", {})
        except NotFound:
            return True
        return spec.get("activeDeadlineSeconds") == 0 or bool(spec.get("shutdown"))


class CancellationWatch(threading.Thread):
    """Looks whether the run was cancelled, and makes the request to stop that its signal would make later.

    Kubeflow Pipelines marks the Workflow at once. The signal comes 5 to 15 s later, and the kill within a
    second of it, too soon for a slow answer of the API server.

    Args:
        request: to be made.
        pause: seconds between two looks.
        seconds: that one look may take.

    Attributes:
        has_seen: the run is known to be cancelled.
    """

    def __init__(
        self, api: Api, workflow: OwnWorkflow, request: StopRequest, pause: float, seconds: float
    ) -> None:
        super().__init__(name="cancellation", daemon=True)
        self.has_seen = False
        self._api = api
        self._workflow = workflow
        self._request = request
        self._pause = pause
        self._seconds = seconds
        self._is_over = threading.Event()

    def stop(self) -> None:
        """Ends the thread, which may first finish a look."""
        self._is_over.set()

    def run(self) -> None:
        """Until stopped, or until the run is cancelled. A look without an answer is made again."""
        while not self._is_over.wait(self._pause):
            with contextlib.suppress(ApiFailure, Unreachable):
                if self._workflow.is_cancelled(self._api, self._seconds):
                    self.has_seen = True
                    self._request.is_made = True
                    return


def own_workflow(api: Api) -> OwnWorkflow | None:
    """The Workflow of this process's pod; None when it is no step of a pipeline.

    Raises:
        SetupError: pod or Workflow cannot be read.
    """
    pod_name = os.environ.get(_POD_VARIABLE)
    if not pod_name:
        return None
    try:
        labels = api.get(PODS, pod_name)["metadata"].get("labels", {})
        if _WORKFLOW_LABEL not in labels:
            return None
        found = api.get(WORKFLOWS, labels[_WORKFLOW_LABEL])
    except ApiFailure as failure:
        raise refused(f"the Workflow of pod {pod_name} cannot be read", failure) from failure
    return OwnWorkflow(found["metadata"]["name"], found["metadata"]["uid"])

"""The training jobs of one trial: makes or finds them, follows them, and stops them."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from optduel.components.core.errors import SetupError, StoppedError
from optduel.components.core.narration import say
from optduel.components.core.stopping import StopRequest
from optduel.components.kubernetes.api import PODS, Api, ApiFailure, Conflict, JsonObject, Unreachable
from optduel.components.kubernetes.refusals import refused
from optduel.components.kubernetes.timing import Timing
from optduel.components.storage.location import join
from optduel.components.train.cluster import names
from optduel.components.train.cluster.deadlines import Deadlines
from optduel.components.train.cluster.follow import Follower
from optduel.components.train.cluster.jobs import JobKind, Order, Phase
from optduel.components.train.cluster.owner import own_workflow
from optduel.components.train.cluster.settings import JobSettings, PodSettings
from optduel.components.train.contract.restarts import Restarts
from optduel.components.train.contract.task import Task


@dataclass(frozen=True)
class Plan:
    """What a trial's jobs have in common.

    Attributes:
        digest: stands for the task in names and labels.
        labels: of every job.
    """

    settings: JobSettings
    pods: PodSettings
    digest: str
    labels: Mapping[str, str]
    timing: Timing


class ClusterTrial:
    """Trains a trial in one job after another, until one is complete.

    Args:
        kind: of its jobs.
        request: to stop.

    Raises:
        SetupError: the Workflow that this step belongs to cannot be read.
    """

    def __init__(self, plan: Plan, api: Api, kind: JobKind, task: Task, request: StopRequest) -> None:
        self._plan = plan
        self._api = api
        self._kind = kind
        self._task = task
        self._request = request
        self._workflow = own_workflow(api)
        self._deadlines = Deadlines(plan.settings)
        self._name = ""

    def train(self) -> None:
        """As `ClusterLauncher.run`."""
        try:
            self._train()
        except StoppedError:
            if not self._request.is_made:
                raise
            raise self._stopped() from None
        except ApiFailure as failure:
            raise refused(f"train {self._task.name}: its {self._kind.title}", failure) from failure

    def _train(self) -> None:
        restarts = Restarts(self._task.name, self._task.compute.restarts, self._request)
        attempt = self._resume()
        while True:
            result = self._follower().wait()
            if not result.cause:
                return
            if self._kind.restarts_itself or not result.cause.may_be_repeated:
                raise result.cause.error
            restarts.wait(result.cause.error, result.step)
            self._clear()
            attempt += 1
            self._create(attempt)

    def _follower(self) -> Follower:
        return Follower(
            self._api, self._kind, self._name, self._task, self._deadlines, self._plan.timing, self._request
        )

    # --- which job ------------------------------------------------------------------------------

    def _resume(self) -> int:
        """Takes over what an earlier attempt of this step has left, or begins; returns the job's number.

        Raises:
            OptduelError: an earlier job has failed for a cause that another one would only repeat.
        """
        selector = names.selector(self._plan.digest)
        found = self._api.find(self._kind.resource, selector)
        if found:
            newest = max(found, key=_attempt_of)
            self._name = newest["metadata"]["name"]
            phase, told = self._kind.phase(newest)
            if phase is Phase.FAILED:
                cause = self._follower().failure(told).cause
                if cause and not cause.may_be_repeated:
                    raise cause.error
            elif not newest["metadata"].get("deletionTimestamp"):
                say(f"train {self._task.name}: {self._kind.title} {self._name} exists already: follows it")
                return _attempt_of(newest)
        # Pods outlive their job for a while; workers of two jobs of one name would meet under one host name.
        left = self._api.find(PODS, selector)
        attempt = max((_attempt_of(one) for one in (*found, *left)), default=-1) + 1
        self._create(attempt)
        return attempt

    def _create(self, attempt: int) -> None:
        """Creates the job of this attempt, after a rehearsal of which everything but the job is real.

        Raises:
            SetupError: the cluster refuses it, or has a job of this name that is not ours.
        """
        order = self._order(attempt)
        body = self._kind.body(order)
        if self._request.is_made:
            raise StoppedError("stopped before a job was made")
        title = f"train {self._task.name}: {self._kind.title} {order.name}"
        try:
            self._api.create(self._kind.resource, body, is_rehearsal=True)
            self._name = order.name
            self._api.create(self._kind.resource, body)
            say(f"{title}: created in namespace {self._api.namespace}")
        except Conflict:
            self._name = ""
            self._check_ours(self._api.get(self._kind.resource, order.name), title)
            self._name = order.name
        except ApiFailure as failure:
            self._name = ""
            raise refused(f"{title} cannot be created", failure) from failure

    def _order(self, attempt: int) -> Order:
        settings = self._plan.settings
        return Order(
            name=names.job_name(self._plan.digest, attempt),
            namespace=self._api.namespace,
            labels={**self._plan.labels, names.ATTEMPT: str(attempt)},
            owners=[self._workflow.reference()] if self._workflow else [],
            trial=self._task.name,
            settings=settings,
            pods=self._plan.pods,
            workers=self._task.compute.workers,
            task_file=join(self._task.output, "task.json"),
            seconds=math.ceil(settings.gang_seconds + settings.run_seconds),
        )

    def _check_ours(self, job: JsonObject, title: str) -> None:
        """Raises SetupError for a job that an answer which was lost on its way does not explain."""
        found = job["metadata"].get("labels") or {}
        if any(found.get(name) != self._plan.labels[name] for name in (names.MANAGED_BY, names.TASK)):
            raise SetupError(f"{title} exists already and is not of this run: delete or rename it")
        say(f"{title} exists already: follows it")

    def _clear(self) -> None:
        """Deletes a job that has failed and waits until its pods are gone, but not for a lost node's."""
        self._api.delete(self._kind.resource, self._name)
        selector = self._kind.pod_selector(self._name)
        end = time.monotonic() + self._plan.timing.deletion
        while self._api.find(PODS, selector) and time.monotonic() < end:
            if self._request.is_made:
                raise StoppedError("stopped between two jobs")
            time.sleep(10 * self._plan.timing.poll)

    # --- the end --------------------------------------------------------------------------------

    def _stopped(self) -> StoppedError:
        """Deletes the job of a cancelled run; the kill that follows SIGTERM leaves about a second for it."""
        title = f"train {self._task.name}"
        if not self._name:
            return StoppedError(f"{title}: stopped before a {self._kind.title} was made")
        job = f"{self._kind.title} {self._name}"
        seconds = self._plan.timing.cancellation / 2
        try:
            if self._workflow and not self._workflow.is_cancelled(self._api, seconds):
                return StoppedError(
                    f"{title}: stopped, but the run was not cancelled: {job} goes on, and this step's next "
                    "attempt takes it over"
                )
            self._api.delete_at_once(self._kind.resource, self._name, seconds)
        except (ApiFailure, Unreachable) as error:
            return StoppedError(f"{title}: stopped; {job} goes on, for it could not be deleted ({error})")
        return StoppedError(f"{title}: the run was cancelled: {job} was deleted")


def _attempt_of(one: JsonObject) -> int:
    """Of a job, or of one of its pods."""
    return int(one["metadata"]["labels"].get(names.ATTEMPT, 0))

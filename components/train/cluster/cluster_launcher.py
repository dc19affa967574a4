"""The launcher of trials whose workers are pods of a training job."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optduel.components.core import (
    LaunchError,
    SetupError,
    StoppedError,
    StopRequest,
    UnfollowedError,
    say,
    stop_on_signals,
)
from optduel.components.kubernetes import (
    PODS,
    Api,
    ApiFailure,
    Conflict,
    JsonObject,
    Timing,
    Unreachable,
    connect,
    refused,
)
from optduel.components.storage import publish
from optduel.components.train.cluster.follow import Deadlines, Follower
from optduel.components.train.cluster.jobs import (
    ATTEMPT,
    MANAGED_BY,
    TASK,
    JobKind,
    Order,
    Phase,
    job_name,
    labels,
    task_digest,
    trial_selector,
)
from optduel.components.train.cluster.owner import CancellationWatch, own_workflow
from optduel.components.train.cluster.settings import JobSettings, PodSettings, job_settings, pod_settings
from optduel.components.train.cluster.tfjob import TFJobs
from optduel.components.train.cluster.trainjob import trainjobs
from optduel.components.train.contract.lease import LeaseKeeper
from optduel.components.train.contract.restarts import Restarts
from optduel.components.train.contract.task import Task

_TIMING = Timing()

JOB_KINDS: dict[str, Callable[[Api, JobSettings], JobKind]] = {
    "trainjob": lambda api, settings: trainjobs(api, settings.runtime),
    "tfjob": lambda api, settings: TFJobs(),
}
"""What makes jobs, by the kind in the deployment. A kind needs its checks in the doctor, too."""
_GOES_ON = "a training job that has begun goes on, and this step's next attempt takes it over"
"""While the API server is away."""


class ClusterLauncher:
    """Each worker is a pod of a TrainJob or a TFJob.

    The job's name follows from the run and the task, so that a launcher that was killed or evicted is
    replaced by its step's next attempt, which takes the job over. The job belongs to the run's Workflow and
    is deleted with it; a TrainJob knows no other time to live, a TFJob has one.

    Args:
        job: the deployment's job section with the image, as JSON, see `JobSettings`.
        run: identifier of the run.
        task: identifier of the task, the same in every attempt.
        task_config: the fields of `kfp.dsl.TaskConfig`.
        timing: of everything that the deployment does not say.

    Raises:
        ExperimentError: an argument breaks a rule.
    """

    def __init__(
        self, job: str, run: str, task: str, task_config: Mapping[str, Any], timing: Timing = _TIMING
    ) -> None:
        settings = job_settings(job)
        digest = task_digest(run, task)
        self._plan = Plan(
            settings, pod_settings(task_config), digest, labels(run, digest, settings.queue), timing
        )

    def run(self, task: Task) -> None:
        """Returns when every worker has succeeded; their lines come out on standard error.

        A TrainJob's runtime restarts the group; a TFJob is replaced by the next, at most `compute.restarts`
        times. SIGTERM deletes the job where the run was cancelled, and else leaves it to the next attempt.
        To be called in the main thread.

        Raises:
            StoppedError: this process was asked to stop; says what became of the job.
            SetupError: the cluster refuses the job, or its pods cannot start.
            ClusterError: the API server cannot be reached; the job goes on.
            LaunchError: workers were lost, did not start, or missed a deadline.
            OptduelError: the root cause of the last failure, as the worker reported it.
        """
        settings = self._plan.settings
        with stop_on_signals() as request:
            api = connect(self._plan.timing, request, remedy=_GOES_ON, streams=task.compute.workers)
            publish(task.task_file, task.canonical_json().encode())
            kind = JOB_KINDS[settings.kind](api, settings)
            with LeaseKeeper(task.lease_file, settings.unfollowed_seconds):
                ClusterTrial(self._plan, api, kind, task, request).train()


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
        self._watch: CancellationWatch | None = None

    def train(self) -> None:
        """As `ClusterLauncher.run`."""
        if self._workflow:
            timing = self._plan.timing
            self._watch = CancellationWatch(
                self._api, self._workflow, self._request, timing.workflow, timing.answer
            )
            self._watch.start()
        try:
            self._train()
        except StoppedError:
            if not self._request.is_made:
                raise
            raise self._stopped() from None
        except ApiFailure as failure:
            raise refused(f"train {self._task.name}: its {self._kind.title}", failure) from failure
        finally:
            if self._watch:
                self._watch.stop()

    def _train(self) -> None:
        restarts = Restarts(self._task.name, self._task.compute.restarts, self._request)
        attempt = self._resume()
        while True:
            result = self._follower().wait()
            if not result.cause:
                return
            error = result.cause.error
            if isinstance(error, UnfollowedError):  # though this launcher is here: it was frozen, or cut off
                error = LaunchError(str(error))
            elif self._kind.restarts_itself or not result.cause.may_be_repeated:
                raise error
            restarts.wait(error, result.step)
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
        selector = trial_selector(self._plan.digest)
        found = self._api.find(self._kind.resource, selector)
        if found:
            newest = max(found, key=_attempt_of)
            self._name = newest["metadata"]["name"]
            phase, told = self._kind.phase(newest)
            if phase is Phase.FAILED:
                cause = self._follower().failure(told).cause
                if cause and not (cause.may_be_repeated or isinstance(cause.error, UnfollowedError)):
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
            name=job_name(self._plan.digest, attempt),
            namespace=self._api.namespace,
            labels={**self._plan.labels, ATTEMPT: str(attempt)},
            owners=[self._workflow.reference()] if self._workflow else [],
            trial=self._task.name,
            settings=settings,
            pods=self._plan.pods,
            workers=self._task.compute.workers,
            task_file=self._task.task_file,
            seconds=math.ceil(settings.gang_seconds + settings.run_seconds),
        )

    def _check_ours(self, job: JsonObject, title: str) -> None:
        """Raises SetupError for a job that an answer which was lost on its way does not explain."""
        found = job["metadata"].get("labels") or {}
        if any(found.get(name) != self._plan.labels[name] for name in (MANAGED_BY, TASK)):
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
        """Deletes the job of a cancelled run.

        The kill that follows SIGTERM leaves less than a second for it. Who has seen the cancellation before
        SIGTERM may take longer.
        """
        title = f"train {self._task.name}"
        if not self._name:
            return StoppedError(f"{title}: stopped before a {self._kind.title} was made")
        job = f"{self._kind.title} {self._name}"
        is_known = self._watch is not None and self._watch.has_seen
        seconds = self._plan.timing.answer if is_known else self._plan.timing.cancellation / 2
        try:
            if self._workflow and not is_known and not self._workflow.is_cancelled(self._api, seconds):
                return StoppedError(
                    f"{title}: stopped, but the run was not cancelled: {job} goes on, and this step's next "
                    "attempt takes it over"
                )
            self._api.delete_at_once(self._kind.resource, self._name, seconds)
        except (ApiFailure, Unreachable) as error:
            left = self._plan.settings.unfollowed_seconds
            return StoppedError(
                f"{title}: stopped, but {job} could not be deleted ({error}). If no other attempt follows it "
                f"within job.unfollowed_seconds = {left:g}, its training saves and ends"
            )
        return StoppedError(f"{title}: the run was cancelled: {job} was deleted")


def _attempt_of(one: JsonObject) -> int:
    """Of a job, or of one of its pods."""
    return int(one["metadata"]["labels"].get(ATTEMPT, 0))

"""Follows one training job to its end."""

import contextlib
import queue
import re
import time
from collections.abc import Iterable, Sequence
from enum import Enum

from optduel.components.core import (
    LaunchError,
    OptduelError,
    StoppedError,
    StopRequest,
    say,
    seconds_in_words,
)
from optduel.components.kubernetes import (
    EVENTS,
    PODS,
    Api,
    ApiFailure,
    Changed,
    JsonObject,
    Listed,
    Refused,
    Sight,
    Timing,
    Watcher,
    refused,
)
from optduel.components.train.cluster.gang import Gang
from optduel.components.train.cluster.jobs import JobKind, Phase
from optduel.components.train.cluster.logs import LogFollower
from optduel.components.train.cluster.pods import has_ended, has_started
from optduel.components.train.cluster.settings import JobSettings
from optduel.components.train.contract.outcome import End, Outcome
from optduel.components.train.contract.task import Task


class Stage(Enum):
    """What a job's time is spent on; the value is the deployment's field with the deadline."""

    QUEUE = "queue_seconds"
    GANG = "gang_seconds"
    RUN = "run_seconds"


class Deadlines:
    """Adds up the time of each stage.

    The time of the run counts from the first moment at which all workers run, restarts and preemptions
    included; that of the other stages anew whenever all workers run. So every path ends.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._spent = {Stage.QUEUE: 0.0, Stage.GANG: 0.0}
        self._looked = time.monotonic()
        self._begun: float | None = None

    def spend(self, stage: Stage) -> Stage | None:
        """Counts the time since the last call for a stage; returns the stage whose deadline has passed."""
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        if stage is Stage.RUN:
            self._begun = self._begun or now
            self._spent = dict.fromkeys(self._spent, 0.0)
        else:
            self._spent[stage] += elapsed
        if self._begun is not None and now - self._begun > self.seconds(Stage.RUN):
            return Stage.RUN
        return next((over for over, spent in self._spent.items() if spent > self.seconds(over)), None)

    def seconds(self, stage: Stage) -> float:
        """The deadline."""
        return float(getattr(self._settings, stage.value))


_SHOWN = 3
_SHOWN_CHARACTERS = 400
_GENERATED = re.compile(r"-[bcdfghjklmnpqrstvwxz2-9]{5}\b")
"""Ends the name of a pod that could not be created: the next attempt's has another."""


def warnings(api: Api, names: Iterable[str]) -> list[str]:
    """The last warnings about objects of these names, each once, newest first."""
    try:
        found = [
            event
            for name in names
            for event in api.find(EVENTS, fields=f"involvedObject.name={name},type=Warning")
        ]
    except ApiFailure as failure:
        return [f"events cannot be read: {failure}"]
    told = [
        f"{event.get('reason')}: {event.get('message')}" for event in sorted(found, key=_when, reverse=True)
    ]
    different: dict[str, str] = {}
    for text in told:
        different.setdefault(_GENERATED.sub("", text), text[:_SHOWN_CHARACTERS].rstrip("."))
    return list(different.values())[:_SHOWN]


def _when(event: JsonObject) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


_EXPLANATIONS = 3


class Follower:
    """Watches a job and its pods, passes on their logs, and ends a job that misses a deadline.

    Args:
        name: the job's.
        deadlines: of the trial, over all its jobs.
    """

    def __init__(
        self,
        api: Api,
        kind: JobKind,
        name: str,
        task: Task,
        deadlines: Deadlines,
        timing: Timing,
        request: StopRequest,
    ) -> None:
        self._api = api
        self._kind = kind
        self._name = name
        self._title = f"train {task.name}: {kind.title} {name}"
        self._workers = task.compute.workers
        self._deadlines = deadlines
        self._timing = timing
        self._request = request
        self._gang = Gang(kind, task.name, self._workers)
        self._sights: queue.SimpleQueue[Sight] = queue.SimpleQueue()
        self._logs: dict[str, LogFollower] = {}
        self._job: JsonObject | None = None
        self._stage: Stage | None = None
        self._podless_since = self._explained = time.monotonic()
        self._told: set[str] = set()

    def wait(self) -> Outcome:
        """Returns when the job is complete, or has failed.

        Raises:
            StoppedError: this process was asked to stop; the job goes on.
            LaunchError: the job was deleted by someone, or missed a deadline and was deleted.
            OptduelError: all its workers have failed at the same step again and again, and it was deleted.
            SetupError: its pods cannot start, and it was deleted; or it may not be watched.
            ClusterError: the API server was away for too long; the job goes on.
        """
        watchers = [
            Watcher(
                self._api,
                self._kind.resource,
                self._sights,
                self._timing.watch,
                fields=f"metadata.name={self._name}",
            ),
            Watcher(
                self._api, PODS, self._sights, self._timing.watch, labels=self._kind.pod_selector(self._name)
            ),
        ]
        for watcher in watchers:
            watcher.start()
        is_complete = False
        try:
            attempt = self._settled(watchers)
            is_complete = attempt.cause is None
            return attempt
        finally:
            for watcher in watchers:
                watcher.stop()
            self._finish_logs(is_complete)

    def failure(self, told: str) -> Outcome:
        """What came of a job that has failed.

        Args:
            told: its controller's words.
        """
        # The job's end may be seen before the last of its pods'.
        self._gang.set(self._api.find(PODS, self._kind.pod_selector(self._name)))
        cause = self._gang.cause()
        if cause is None:
            words = told or "its controller does not say why"
            error = LaunchError(f"{self._title} has failed and its workers told nothing: {words}")
            return Outcome(End(error.worker_exit_code, error), self._gang.step)
        error_type = type(cause.error)
        told = f" ({self._kind.title} {self._name}: {told})" if told else ""
        return Outcome(End(cause.code, error_type(f"{cause.error}{told}")), self._gang.step)

    def _settled(self, watchers: Sequence[Watcher]) -> Outcome:
        while True:
            self._look()
            if self._request.is_made:
                raise StoppedError(f"{self._title}: not followed any more")
            for watcher in watchers:
                if watcher.trouble and time.monotonic() - watcher.trouble[0] > self._timing.away:
                    raise self._api.is_away(time.monotonic() - watcher.trouble[0], watcher.trouble[1])
            if self._job is None:
                continue
            phase, told = self._kind.phase(self._job)
            if phase is Phase.COMPLETE:
                return Outcome(None, self._gang.step)
            if phase is Phase.FAILED:
                attempt = self.failure(told)
                for pod in self._gang.pods():
                    self._take_log(pod)
                return attempt
            self._check_start(phase)
            self._explain()
            self._check_deadlines(phase)

    # --- what is seen ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Takes in what was seen, and waits a moment for the first of it; never longer, whatever comes in."""
        end = time.monotonic() + self._timing.poll
        with contextlib.suppress(queue.Empty):
            while (left := end - time.monotonic()) > 0:
                self._take(self._sights.get(timeout=left))

    def _take(self, sight: Sight) -> None:
        match sight:
            case Refused(resource, failure):
                raise refused(f"{self._title}: its {resource.plural} cannot be watched", failure)
            case Listed(resource, objects) if resource == PODS:
                self._gang.set(objects)
                for pod in objects:
                    self._take_log(pod)
            case Listed(_, objects):
                self._take_job(objects[0] if objects else None)
            case Changed(resource, pod, is_gone) if resource == PODS:
                self._gang.update(pod)
                self._take_log(pod, is_gone=is_gone)
                if is_gone:
                    self._gang.remove(pod)
            case Changed(_, job, is_gone):
                self._take_job(None if is_gone else job)

    def _take_job(self, job: JsonObject | None) -> None:
        if job is None or job["metadata"].get("deletionTimestamp"):
            raise LaunchError(
                f"{self._title} was deleted by someone else; it is not created again. Its checkpoints stay, "
                "and another attempt of this step goes on from them"
            )
        self._job = job

    def _take_log(self, pod: JsonObject, *, is_gone: bool = False) -> None:
        uid, container = pod["metadata"]["uid"], self._kind.container
        if uid not in self._logs and has_started(pod, container):
            follower = LogFollower(
                self._api, pod["metadata"]["name"], container, self._gang.index(pod), self._timing.log_pause
            )
            follower.start()
            self._logs[uid] = follower
        if uid in self._logs and (is_gone or has_ended(pod, container)):
            self._logs[uid].pod_has_ended()

    def _finish_logs(self, is_complete: bool) -> None:
        end = time.monotonic() + (0.0 if self._request.is_made else self._timing.last_lines)
        if is_complete:
            for follower in self._logs.values():
                follower.pod_has_ended()
        for follower in self._logs.values():
            follower.finish(max(0.0, end - time.monotonic()))

    # --- what takes too long --------------------------------------------------------------------

    def _check_start(self, phase: Phase) -> None:
        if loop := self._gang.crash_loop():
            raise self._given_up(loop)
        if found := self._gang.hopeless(self._timing.unstartable):
            raise self._given_up(
                found.error(f"{found.reason}; check the deployment's image, secrets and volumes")
            )
        if phase is not Phase.ACTIVE or not self._gang.is_empty:
            self._podless_since = time.monotonic()
        elif time.monotonic() - self._podless_since > self._timing.podless:
            self._podless_since = time.monotonic()
            if told := warnings(self._api, self._kind.event_sources(self._name)):
                raise self._given_up(
                    LaunchError(
                        f"{self._title} has no pods after {self._timing.podless:g} s: {'; '.join(told)}"
                    )
                )

    def _explain(self) -> None:
        """Says what the events of pods say that do not start, each once: a volume, a sandbox, a quota."""
        if time.monotonic() - self._explained < self._timing.unexplained:
            return
        self._explained = time.monotonic()
        for told in warnings(self._api, self._gang.unexplained()[:_EXPLANATIONS]):
            if told not in self._told:
                self._told.add(told)
                say(f"{self._title}: {told}")

    def _check_deadlines(self, phase: Phase) -> None:
        running = self._gang.running()
        if phase is Phase.QUEUED:
            stage, words = Stage.QUEUE, "waits to be admitted by its queue"
        elif running < self._workers:
            stage, words = Stage.GANG, f"{running} of {self._workers} workers run"
        else:
            stage, words = Stage.RUN, f"all {self._workers} workers run"
        if stage is not self._stage:
            self._stage = stage
            say(f"{self._title}: {words}")
        if over := self._deadlines.spend(stage):
            seconds = self._deadlines.seconds(over)
            limit = f"within job.{over.value} = {seconds:g} ({seconds_in_words(seconds)})"
            raise self._given_up(self._overdue(over, running, limit))

    def _overdue(self, stage: Stage, running: int, limit: str) -> OptduelError:
        if stage is Stage.RUN:
            return LaunchError(
                f"{self._title} has not finished {limit}; its checkpoints stay, and another attempt goes on"
            )
        sources = list(self._kind.event_sources(self._name))
        if stage is Stage.QUEUE:
            told = "; ".join(warnings(self._api, sources)) or "its queue says nothing"
            return LaunchError(
                f"{self._title} was not admitted {limit}: {told}; raise the queue's quota, ask for less, or "
                "wait longer"
            )
        obstacles = self._gang.obstacles()
        reasons = [*(found.reason for found in obstacles), *self._gang.lingering()][:_EXPLANATIONS]
        reasons = reasons or warnings(self._api, [*self._gang.unexplained()[:_EXPLANATIONS], *sources])
        error_type = obstacles[0].error if obstacles else LaunchError
        told = "; ".join(reasons) or "neither its pods nor its events say why"
        return error_type(f"{self._title}: {running} of {self._workers} workers run {limit}: {told}")

    def _given_up(self, error: OptduelError) -> OptduelError:
        """Deletes the job, so that nothing is spent on it any more."""
        try:
            self._api.delete(self._kind.resource, self._name)
        except ApiFailure as failure:
            return type(error)(f"{error}. It could not be deleted: {failure}")
        return type(error)(f"{error}. The {self._kind.title} was deleted")

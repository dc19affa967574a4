"""The pods of a training job, as seen so far."""

import time
from collections.abc import Iterable

from optduel.components.core import OptduelError, PeerLostError, StoppedError, say
from optduel.components.kubernetes import JsonObject
from optduel.components.train.cluster.jobs import JobKind
from optduel.components.train.cluster.pods import (
    Obstacle,
    WorkerEnd,
    end_of,
    has_ended,
    has_started,
    is_up,
    lingering,
    obstacle,
)
from optduel.components.train.contract.outcome import End, root_cause
from optduel.components.train.contract.restarts import crash_loop

_BACK_OFF = "ImagePullBackOff"
"""Between two attempts the kubelet says no more than that it waits; why, it said before."""


class Gang:
    """The workers of one job, through all restarts of the group.

    Args:
        kind: of the job.
        name: of the trial, for messages.
        workers: how many there have to be.
    """

    def __init__(self, kind: JobKind, name: str, workers: int) -> None:
        self._kind = kind
        self._name = name
        self._workers = workers
        self._pods: dict[str, JsonObject] = {}
        self._started: set[tuple[int, int]] = set()
        self._ends: dict[str, tuple[int, WorkerEnd]] = {}
        self._obstacles: dict[str, tuple[Obstacle, float]] = {}
        self._attempt = 0
        self._failed_steps: list[int] = []
        self._last_failure: OptduelError | None = None
        self.step = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no pod."""
        return not self._pods

    def pods(self) -> list[JsonObject]:
        """All that there are."""
        return list(self._pods.values())

    def index(self, pod: JsonObject) -> int:
        """Which worker a pod is."""
        return int(pod["metadata"]["labels"][self._kind.index_label])

    def set(self, pods: Iterable[JsonObject]) -> None:
        """Takes these pods for all that there are."""
        present = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid in self._pods.keys() - present.keys():
            self.remove(self._pods[uid])
        for pod in present.values():
            self.update(pod)

    def update(self, pod: JsonObject) -> None:
        """Takes note of a pod, and tells what is new and worth it."""
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        attempt = self._attempt_of(pod)
        if attempt > self._attempt:
            self._note_failure()
            self._attempt = attempt
            say(f"train {self._name}: all workers start again (restart {attempt})")
        worker = self._title(pod)
        if has_started(pod, self._kind.container):
            self._started.add((attempt, self.index(pod)))
        if uid not in self._ends and (end := end_of(pod, self._kind.container, worker)):
            self._ends[uid] = (attempt, end)
            self.step = max(self.step, end.step)
            say(str(end.end.error))
        self._note_obstacle(uid, pod, worker)

    def remove(self, pod: JsonObject) -> None:
        """Takes note that a pod is gone."""
        uid = pod["metadata"]["uid"]
        self._pods.pop(uid, None)
        self._obstacles.pop(uid, None)

    def running(self) -> int:
        """How many workers of the present attempt run, or have run well."""
        return len(
            {
                self.index(pod)
                for pod in self._pods.values()
                if is_up(pod) and self._attempt_of(pod) == self._attempt
            }
        )

    def cause(self) -> End | None:
        """Why the present attempt failed; None where no worker has told, whatever was of earlier attempts."""
        found = [end for attempt, end in self._ends.values() if attempt == self._attempt]
        if not found:
            return None
        return root_cause([one.end for one in sorted(found, key=lambda one: one.when)])

    def crash_loop(self) -> OptduelError | None:
        """Why there is no hope that starting all workers again helps; None where there is."""
        return crash_loop(self._last_failure, self._failed_steps) if self._last_failure else None

    def hopeless(self, seconds: float) -> Obstacle | None:
        """An obstacle that is permanent, or a stubborn one that has not passed for so long."""
        for found, since in self._obstacles.values():
            if found.is_permanent or (found.is_stubborn and time.monotonic() - since > seconds):
                return found
        return None

    def obstacles(self) -> list[Obstacle]:
        """Why workers do not run, each reason once."""
        return list({found.reason: found for found, _ in self._obstacles.values()}.values())

    def lingering(self) -> list[str]:
        """What is to be said of pods that were to end and have not."""
        told = [lingering(pod, self._kind.container, self._title(pod)) for pod in self._pods.values()]
        return [one for one in told if one]

    def unexplained(self) -> list[str]:
        """Names of pods that do not run and do not say why."""
        return [
            pod["metadata"]["name"]
            for uid, pod in self._pods.items()
            if not is_up(pod) and not has_ended(pod, self._kind.container) and uid not in self._obstacles
        ]

    def _note_failure(self) -> None:
        """Takes note of how the present attempt failed, unless the cluster ended it: that is no failure."""
        ends = [end for attempt, end in self._ends.values() if attempt == self._attempt]
        cause = self.cause()
        if cause is None:  # it may have been another one every time
            self._failed_steps.clear()
            return
        # Who waited for a worker that has not come yet; how long one may take is for a deadline to say.
        is_whole = (
            len({index for attempt, index in self._started if attempt == self._attempt}) == self._workers
        )
        has_waited = isinstance(cause.error, PeerLostError) and not is_whole
        is_stopped = isinstance(cause.error, StoppedError) or any(end.is_disrupted for end in ends)
        if not (has_waited or is_stopped):
            self._last_failure = cause.error
            self._failed_steps.append(max(end.step for end in ends))

    def _note_obstacle(self, uid: str, pod: JsonObject, worker: str) -> None:
        found = obstacle(pod, worker)
        if found is None:
            self._obstacles.pop(uid, None)
            return
        before, since = self._obstacles.get(uid, (None, time.monotonic()))
        if before and before.is_stubborn != found.is_stubborn:
            since = time.monotonic()
        elif before and _BACK_OFF in found.reason:
            found = before
        if not before or before.reason != found.reason:
            say(found.reason)
        self._obstacles[uid] = (found, since)

    def _title(self, pod: JsonObject) -> str:
        return f"train {self._name}: worker {self.index(pod)} of {self._workers}"

    def _attempt_of(self, pod: JsonObject) -> int:
        label = self._kind.attempt_label
        return int(pod["metadata"]["labels"].get(label, 0)) if label else 0

"""How long a training job may be queued, wait for its workers, and run."""

import time
from enum import Enum

from optduel.components.train.cluster.settings import JobSettings


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

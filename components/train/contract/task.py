"""What workers have to do, as the object that they read: a trial, and others that they train after it."""

import hashlib
from collections.abc import Mapping, Sequence

from optduel.components.records import Records
from optduel.components.results import code_version
from optduel.components.settings import Arm, Compute, Model, Section, Training, canonical_json
from optduel.components.storage import join

WORKER_MODULE = "optduel.components.train.worker.worker"
"""What a worker runs, with the task's place as its argument: `python -m WORKER_MODULE PLACE`."""

MODEL, HISTORY, RECORD, EVENTS = "model.keras", "history.jsonl", "training.json", "tensorboard"
"""What a finished trial's folder holds; the record appears last."""


class Following(Section):
    """What a further trial has of its own; the fields are those of `Task`."""

    arm: Arm
    seed: int
    output: str
    setting: int | None = None
    result: str | None = None


class Task(Section):
    """One trial: an arm with a seed, on these records, into this folder; and those that follow it.

    Attributes:
        output: folder that receives `model.keras`, `history.jsonl`, `training.json`, `checkpoints/` and
            `tensorboard/`; a path or a URI.
        setting: the number of a setting that is tuned. Such a trial leaves its history in the folder and its
            `TunedTrial` at `result`, and no model: only what was chosen is trained for its model.
        following: trials that the same workers train next, in order, without starting or compiling anew.
        home: where several trials have their lease and their task file; `output` unless given.
    """

    model: Model
    arm: Arm
    training: Training
    compute: Compute
    seed: int
    records: Records
    output: str
    setting: int | None = None
    result: str | None = None
    following: tuple[Following, ...] = ()
    home: str | None = None

    def with_setting(self, values: Mapping[str, float]) -> "Task":
        """The same trial of an arm that has these values, by path, and nothing to search."""
        return self.model_copy(update={"arm": self.arm.with_setting(values)})

    def with_following(self, others: "Sequence[Task]", home: str) -> "Task":
        """One task for this trial and others, which share all but what `Following` has."""
        following = tuple(
            Following.model_validate({name: getattr(one, name) for name in Following.model_fields})
            for one in others
        )
        return self.model_copy(update={"following": following, "home": home})

    @property
    def trials(self) -> "tuple[Task, ...]":
        """All trials, each as a task of its own."""
        first = self.model_copy(update={"following": (), "home": None})
        return (first, *(first.model_copy(update=dict(one)) for one in self.following))

    @property
    def name(self) -> str:
        """The trial in words, for narration and errors."""
        setting = "" if self.setting is None else f", setting {self.setting}"
        others = f" and {len(self.following)} more" if self.following else ""
        return f"{self.arm.name}{setting}, seed {self.seed}{others}"

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over all that determines the trial's numbers: settings, records, code."""
        known = self.model_dump(mode="json", include={"model", "arm", "training", "seed"})
        known |= {"records": self.records.manifest.fingerprint, "code": code_version()}
        return hashlib.sha256(canonical_json(known).encode()).hexdigest()

    @property
    def model_file(self) -> str:
        """Where the trained model goes: Keras' format, loadable with safe_mode=True and without our code."""
        return join(self.output, MODEL)

    @property
    def history_file(self) -> str:
        """Where the history grows while training runs."""
        return join(self.output, HISTORY)

    @property
    def record_file(self) -> str:
        """Where the trial's document goes, last: with it the trial is complete."""
        return self.result or join(self.output, RECORD)

    @property
    def checkpoint_folder(self) -> str:
        """Where checkpoints go."""
        return join(self.output, "checkpoints")

    @property
    def lease_file(self) -> str:
        """What the launcher renews while it follows a training job, see `lease`."""
        return join(self.home or self.output, "lease")

    @property
    def task_file(self) -> str:
        """Where workers on other machines read the task."""
        return join(self.home or self.output, "task.json")

    @property
    def events_folder(self) -> str:
        """Where TensorBoard finds the trial while it trains."""
        return join(self.output, EVENTS)

"""What one trial has to do, as the object that its workers read."""

import hashlib

from optduel.components.records import Records
from optduel.components.results import code_version
from optduel.components.settings import Arm, Compute, Model, Section, Training, canonical_json
from optduel.components.storage import join

WORKER_MODULE = "optduel.components.train.worker.worker"
"""What a worker runs, with the task's place as its argument: `python -m WORKER_MODULE PLACE`."""

MODEL, HISTORY, RECORD, EVENTS = "model.keras", "history.jsonl", "training.json", "tensorboard"
"""What a finished trial's folder holds; the record appears last."""


class Task(Section):
    """One trial: an arm with a seed, on these records, into this folder.

    Attributes:
        output: folder that receives `model.keras`, `history.jsonl`, `training.json`, `checkpoints/` and
            `tensorboard/`; a path or a URI.
    """

    model: Model
    arm: Arm
    training: Training
    compute: Compute
    seed: int
    records: Records
    output: str

    @property
    def name(self) -> str:
        """The trial in words, for narration and errors."""
        return f"{self.arm.name}, seed {self.seed}"

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
        """Where the TrainingRecord goes, last: with it the trial is complete."""
        return join(self.output, RECORD)

    @property
    def checkpoint_folder(self) -> str:
        """Where checkpoints go."""
        return join(self.output, "checkpoints")

    @property
    def lease_file(self) -> str:
        """What the launcher renews while it follows a training job, see `lease`."""
        return join(self.output, "lease")

    @property
    def events_folder(self) -> str:
        """Where TensorBoard finds the trial while it trains."""
        return join(self.output, EVENTS)

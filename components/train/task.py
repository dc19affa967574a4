"""What one trial has to do, as the file that its workers read."""

from pathlib import Path

from components.core.experiment import Arm, Compute, Model, Section, Training
from components.core.records import Records


class Task(Section):
    """One trial: an arm with a seed, on these records, into this folder.

    Attributes:
        output: folder that receives `model.keras`, `history.jsonl`, `training.json`, `checkpoints/` and
            `tensorboard/`.
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
    def model_file(self) -> Path:
        """Where the trained model goes: Keras' format, loadable with safe_mode=True and without our code."""
        return Path(self.output) / "model.keras"

    @property
    def history_file(self) -> Path:
        """Where the history grows while training runs."""
        return Path(self.output) / "history.jsonl"

    @property
    def record_file(self) -> Path:
        """Where the TrainingRecord goes, last: with it the trial is complete."""
        return Path(self.output) / "training.json"

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints go."""
        return Path(self.output) / "checkpoints"

    @property
    def events_folder(self) -> Path:
        """Where TensorBoard finds the trial while it trains."""
        return Path(self.output) / "tensorboard"

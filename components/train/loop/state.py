"""Where a trial is: what a checkpoint remembers of the loop, and the names of the variables beside it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras

from optduel.components.results import Row
from optduel.components.settings import EarlyStopping, Training
from optduel.components.train.model.averaging import MovingAverage
from optduel.components.train.model.engine import Totals, Trained
from optduel.components.train.model.optimizers import Optimizer


@dataclasses.dataclass
class State:
    """All of it is in a checkpoint.

    Attributes:
        step: optimizer steps done.
        epochs: epochs done, validation included.
        interval: sums since the last row, of steps.
        epoch: sums over the epoch's rows so far.
        interval_seconds: time spent on `interval`.
        epoch_seconds: time spent on `epoch`.
        wall_seconds: time spent up to the checkpoint that this state comes from.
        rows: the history.
        precision: the dtype policy that the trial is trained with.
        best_epoch: the epoch that early stopping holds for the best so far, from 1; 0 where there is none.
        best_value: its metric.
    """

    step: int = 0
    epochs: int = 0
    interval: Totals = Totals()
    epoch: Totals = Totals()
    interval_seconds: float = 0.0
    epoch_seconds: float = 0.0
    wall_seconds: float = 0.0
    rows: list[Row] = dataclasses.field(default_factory=list)
    precision: str = "float32"
    best_epoch: int = 0
    best_value: float = 0.0

    def add_steps(self, trained: Trained, seconds: float) -> None:
        """Notes steps that were done, and the time that they took."""
        self.step += trained.steps
        self.interval = trained.totals
        self.interval_seconds += seconds

    def close_interval(self) -> None:
        """Adds the interval to the epoch and begins the next one."""
        self.epoch = self.epoch.plus(self.interval)
        self.epoch_seconds += self.interval_seconds
        self.interval, self.interval_seconds = Totals(), 0.0

    def close_epoch(self) -> None:
        """Begins the next epoch."""
        self.epochs += 1
        self.epoch, self.epoch_seconds = Totals(), 0.0

    def is_best(self, rule: EarlyStopping) -> bool:
        """Whether the epoch that has ended is the best so far, which is noted."""
        value = self.rows[-1].accuracy if rule.metric == "accuracy" else self.rows[-1].cross_entropy
        if self.best_epoch and not rule.is_better(value, self.best_value):
            return False
        self.best_epoch, self.best_value = self.epochs, value
        return True

    def is_over(self, training: Training) -> bool:
        """Whether no epoch is left to train. Workers agree: validation is reduced over them."""
        rule = training.early_stopping
        is_late = bool(rule and self.best_epoch and self.epochs - self.best_epoch >= rule.patience)
        return is_late or self.epochs >= training.epochs

    def to_json(self, wall_seconds: float) -> dict[str, Any]:
        """JSON values; floats keep every bit."""
        # Not asdict(self) nor model_dump(): they copy the whole history, which training would wait for.
        return {
            **vars(self),
            "interval": dataclasses.asdict(self.interval),
            "epoch": dataclasses.asdict(self.epoch),
            "wall_seconds": wall_seconds,
            "rows": [vars(row) for row in self.rows],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` was made from."""
        totals = {name: Totals(**values[name]) for name in ("interval", "epoch")}
        return cls(**dict(values) | totals | {"rows": [Row(**row) for row in values["rows"]]})


def named_weights(prefix: str, model: keras.Model) -> dict[str, Any]:
    """A model's variables, statistics of normalization included, by name; positions make names unique."""
    # Not by path: Keras numbers layers through the life of a process.
    return {
        f"{prefix}/{index:03d}/{variable.name}": variable for index, variable in enumerate(model.variables)
    }


def named_variables(
    model: keras.Model, optimizer: Optimizer, average: MovingAverage | None
) -> dict[str, Any]:
    """All variables of a trial that go on from a checkpoint, by name."""
    named = named_weights("model", model)
    if average:
        named |= named_weights("average", average.average)
    for index, slots in enumerate(optimizer.slots):
        named |= {f"slot/{index:03d}/{number}": slot for number, slot in enumerate(slots)}
    return named


def training_row(totals: Totals, seconds: float, **known: Any) -> Row:
    """A row of the training split.

    Args:
        totals: over the steps that the row is about.
        seconds: that they took.
        known: the row's other columns.
    """
    cross_entropy = totals.cross_entropy / totals.examples
    penalty = totals.penalty / totals.steps
    return Row(
        split="train",
        examples=int(totals.examples),
        cross_entropy=cross_entropy,
        penalty=penalty,
        total=cross_entropy + penalty,
        accuracy=totals.correct / totals.examples,
        examples_per_second=totals.examples / seconds,
        **known,
    )


def validation_row(trained: Row, totals: Totals, penalty: float, seconds: float) -> Row:
    """The row of the validation split that goes with an epoch's.

    Args:
        trained: the epoch's.
        totals: over the validation split.
        penalty: of the weights that were validated.
        seconds: that it took.
    """
    cross_entropy = totals.cross_entropy / totals.examples
    return trained.model_copy(
        update={
            "split": "validation",
            "examples": int(totals.examples),
            "cross_entropy": cross_entropy,
            "penalty": penalty,
            "total": cross_entropy + penalty,
            "accuracy": totals.correct / totals.examples,
            "examples_per_second": totals.examples / seconds,
        }
    )

"""The history: what was measured while one trial trained, as a table of rows in a JSON-lines file.

Sums and counts are reduced over all workers before they become means, so a row holds for the global batch
or the whole split, whatever the number of workers.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from optduel.components.core import DataError, ExperimentError
from optduel.components.settings import Section, decode
from optduel.components.storage import Location, publish, read

TIMING_FIELDS = ("examples_per_second", "wall_seconds")
"""Columns that differ between two runs of the same experiment; all others are reproducible."""


class Row(Section):
    """One measurement.

    Attributes:
        event: "step" for the steps since the row before, "epoch" for a whole epoch.
        split: what was measured; validation rows are measured with the weights at the end of the epoch.
        step: optimizer steps done.
        epoch: epochs done, 1 after the first; for a step row the epoch that it belongs to.
        examples: how many examples the means are taken over.
        cross_entropy: mean, in nats, without any penalty; in training to the labels as they were mixed and
            smoothed.
        penalty: the L2 term, l2 * sum(w^2) over decayed weights; for training the mean over the steps.
        total: cross_entropy + penalty: what the gradient minimizes.
        accuracy: fraction of examples whose largest logit is the label's; of mixtures the label's share.
        learning_rate: of the last step.
        decay: what multiplies a decayed weight and is subtracted in the last step, before momentum or
            preconditioning: learning rate * weight_decay, or learning rate * 2 * l2.
        gradient_norm: Euclidean norm of the loss gradient (penalty included) at the last step.
        weight_norm: Euclidean norm of all trainable weights.
        examples_per_second: over the time since the row before.
        wall_seconds: since the trial's training began.
    """

    event: Literal["step", "epoch"]
    split: Literal["train", "validation"]
    step: int
    epoch: int
    examples: int
    cross_entropy: float
    penalty: float
    total: float
    accuracy: float
    learning_rate: float
    decay: float
    gradient_norm: float
    weight_norm: float
    examples_per_second: float
    wall_seconds: float

    def reproducible(self) -> dict[str, float | int | str]:
        """The row without its timing columns."""
        return self.model_dump(exclude=set(TIMING_FIELDS))


def write_history(location: Location, rows: Iterable[Row]) -> None:
    """Replaces the object at `location`, atomically, by these rows."""
    lines = [row.canonical_json() + "\n" for row in rows]
    publish(location, "".join(lines).encode())


def read_history(location: Location) -> tuple[Row, ...]:
    """All rows, in the order they were measured.

    Raises:
        StorageError: the history cannot be read.
        DataError: a line is not a row.
    """
    return decode_history(read(location), str(location))


def decode_history(content: bytes, where: str) -> tuple[Row, ...]:
    """The rows of a JSON-lines file's content.

    Args:
        where: names the file in messages.

    Raises:
        DataError: a line is not a row.
    """
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            rows.append(decode(Row, line, f"{where}, line {number}"))
        except ExperimentError as error:
            raise DataError(f"{where}, line {number}: not a row of a history: {error}") from error
    return tuple(rows)


def epochs_of(rows: Sequence[Row], split: Literal["train", "validation"]) -> list[Row]:
    """The epoch rows of one split, in order."""
    return [row for row in rows if row.event == "epoch" and row.split == split]

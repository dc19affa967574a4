"""Learning curves: a column of the histories of one arm, summed up over its seeds epoch by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optduel.components.core.errors import DataError
from optduel.components.results.documents import Trial
from optduel.components.results.history import epochs_of

Column = Literal["cross_entropy", "penalty", "total", "accuracy"]
HistorySplit = Literal["train", "validation"]


@dataclass(frozen=True)
class Curve:
    """Median, minimum and maximum over the seeds; all float64 [epochs], as is `epochs` itself."""

    epochs: NDArray[np.float64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curve(trials: Sequence[Trial], split: HistorySplit, column: Column) -> Curve:
    """The curve of one arm.

    Raises:
        DataError: a history has no epochs, or other ones than the first history.
    """
    histories = [epochs_of(trial.history, split) for trial in trials]
    epochs = [row.epoch for row in histories[0]]
    for trial, rows in zip(trials, histories, strict=True):
        measured = [row.epoch for row in rows]
        if not measured or measured != epochs:
            raise DataError(
                f"trial {trial.training.arm}, seed {trial.training.seed}: {split} epochs = {measured}: "
                f"must be those of its arm's first seed, {epochs}; train again"
            )
    values = np.array([[getattr(row, column) for row in rows] for rows in histories], dtype=np.float64)
    return Curve(
        np.array(epochs, dtype=np.float64), np.median(values, axis=0), values.min(axis=0), values.max(axis=0)
    )

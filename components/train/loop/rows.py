"""Rows of the history from sums: where sums become means."""

from typing import Any

from optduel.components.results.history import Row
from optduel.components.train.model.engine import Totals


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

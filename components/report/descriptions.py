"""The plots in words, for readers who do not see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optduel.components.report.curves import Column, curve
from optduel.components.report.diagnostics import pooled_calibration
from optduel.components.report.plots import LOSS_PARTS
from optduel.components.results.documents import Trial


@dataclass(frozen=True)
class Descriptions:
    """What the figures show, one text each."""

    total: str
    accuracy: str
    parts: str
    calibration: str


def describe(arms: Mapping[str, Sequence[Trial]]) -> Descriptions:
    """Where each line ends, and how far confidence and accuracy lie apart."""
    return Descriptions(
        total=_ends(arms, "total"),
        accuracy=_ends(arms, "accuracy"),
        parts=" ".join(f"{title}: {_ends(arms, column)}" for column, title in LOSS_PARTS),
        calibration=" ".join(f"{arm}: {_calibration(trials)}" for arm, trials in arms.items()),
    )


def _ends(arms: Mapping[str, Sequence[Trial]], column: Column) -> str:
    sentences = []
    for arm, trials in arms.items():
        train, validation = (curve(trials, split, column) for split in ("train", "validation"))
        sentences.append(
            f"{arm} ends after epoch {train.epochs[-1]:.0f} at {train.median[-1]:.3f} in training and "
            f"{validation.median[-1]:.3f} in validation."
        )
    return " ".join(sentences)


def _calibration(trials: Sequence[Trial]) -> str:
    confidence, accuracy, share = pooled_calibration(trials)
    return f"mean confidence {float(confidence @ share):.3f}, accuracy {float(accuracy @ share):.3f}."

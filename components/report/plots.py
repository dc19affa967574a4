"""The two plots of the tutorial, and the loss taken apart."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optduel.components.core import DataError
from optduel.components.report.diagnostics import pooled_calibration
from optduel.components.report.drawing import COLOURS, MARKERS, Axes, Figure, MaxNLocator
from optduel.components.results import Trial, epochs_of
from optduel.components.settings import Arm

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
    """The curve of one arm; where trials ended early, of those that had not ended yet.

    Raises:
        DataError: a history has no epochs, or lacks one before its last.
    """
    histories = [epochs_of(trial.history, split) for trial in trials]
    epochs = list(range(1, max(map(len, histories)) + 1))
    values = np.full((len(trials), len(epochs)), np.nan)
    for place, (trial, rows) in enumerate(zip(trials, histories, strict=True)):
        measured = [row.epoch for row in rows]
        if not measured or measured != epochs[: len(measured)]:
            raise DataError(
                f"trial {trial.training.arm}, seed {trial.training.seed}: {split} epochs = {measured}: "
                "must be 1, 2, 3, ..., without a gap; train again"
            )
        values[place, : len(rows)] = [getattr(row, column) for row in rows]
    reduced = (reduce(values, axis=0) for reduce in (np.nanmedian, np.nanmin, np.nanmax))
    return Curve(np.array(epochs, dtype=np.float64), *reduced)


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
        calibration=" ".join(f"{arm}: {_calibration(trials)}" for arm, trials in arms.items() if trials),
    )


def _ends(arms: Mapping[str, Sequence[Trial]], column: Column) -> str:
    sentences = []
    for arm, trials in arms.items():
        if not trials:
            continue
        train, validation = (curve(trials, split, column) for split in ("train", "validation"))
        sentences.append(
            f"{arm} ends after epoch {train.epochs[-1]:.0f} at {train.median[-1]:.3f} in training and "
            f"{validation.median[-1]:.3f} in validation."
        )
    return " ".join(sentences)


def _calibration(trials: Sequence[Trial]) -> str:
    confidence, accuracy, share = pooled_calibration(trials)
    return f"mean confidence {float(confidence @ share):.3f}, accuracy {float(accuracy @ share):.3f}."


FEW_ARMS = 3
"""With more arms than this the legend stands beside the plot, and bands would only cover one another."""

LINES: tuple[tuple[HistorySplit, str], ...] = (("train", "-"), ("validation", "--"))

LOSS_PARTS: tuple[tuple[Column, str], ...] = (
    ("cross_entropy", "Cross-entropy"),
    ("penalty", "L2 penalty"),
    ("total", "Total: what is minimized"),
)


def plot_subject(arms: Sequence[Arm]) -> str:
    """How the plots' titles begin: the tutorial's words for its two optimizers, else the arms' names."""
    if len(arms) == 2 and {arm.optimizer for arm in arms} == {"adamw", "sgd"}:
        return "AdamW vs SGD with L2"
    if len(arms) > FEW_ARMS:
        return f"{len(arms)} arms:"
    return " vs ".join(arm.name for arm in arms)


def losses_figure(subject: str, arms: Mapping[str, Sequence[Trial]]) -> Figure:
    """Total loss, penalty included, of training (solid) and validation (dashed), for each arm."""
    return _learning_curves(f"{subject} Losses", arms, "total", "Loss (cross-entropy + L2 penalty)")


def accuracy_figure(subject: str, arms: Mapping[str, Sequence[Trial]]) -> Figure:
    """Accuracy of training (solid) and validation (dashed), for each arm."""
    return _learning_curves(f"{subject} Accuracy", arms, "accuracy", "Accuracy")


def loss_parts_figure(arms: Mapping[str, Sequence[Trial]]) -> Figure:
    """Cross-entropy, penalty and total side by side: only the first is comparable between arms."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels = figure.subplots(1, len(LOSS_PARTS))
    for axes, (column, title) in zip(panels, LOSS_PARTS, strict=True):
        _draw_curves(axes, arms, column)
        axes.set_title(title)
    panels[0].set_ylabel("Loss")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _learning_curves(title: str, arms: Mapping[str, Sequence[Trial]], column: Column, label: str) -> Figure:
    few = len(arms) <= FEW_ARMS
    figure = Figure(figsize=(7.5 if few else 10.5, 5), layout="constrained")
    axes = figure.subplots()
    _draw_curves(axes, arms, column)
    axes.set_title(textwrap.fill(title, 64))
    axes.set_ylabel(label)
    if few:
        axes.legend(loc="best", fontsize="small")
    else:
        figure.legend(loc="outside right upper", fontsize="x-small")
    return figure


def _draw_curves(axes: Axes, arms: Mapping[str, Sequence[Trial]], column: Column) -> None:
    """Two lines for each arm, medians over the seeds; for few arms also bands from smallest to largest."""
    for index, (name, trials) in enumerate(arms.items()):
        if not trials:  # each of them diverged
            continue
        colour, marker = COLOURS[index], MARKERS[index]
        for split, line in LINES:
            values = curve(trials, split, column)
            axes.plot(
                values.epochs,
                values.median,
                line,
                color=colour,
                marker=marker,
                markersize=4,
                markevery=max(len(values.epochs) // 10, 1),
                markerfacecolor=colour if split == "train" else "white",
                label=f"{name} {split}",
            )
            if len(trials) > 1 and len(arms) <= FEW_ARMS:
                axes.fill_between(
                    values.epochs, values.low, values.high, color=colour, alpha=0.13, linewidth=0
                )
    axes.set_xlabel("# epochs")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    first, last = axes.dataLim.intervalx
    if first == last:  # one epoch: its marks stand in the middle
        axes.set_xlim(first - 1, first + 1)

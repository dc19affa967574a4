"""Figures of the final evaluation, summed up over the seeds: ROC curves, calibration, confusion matrices."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from optduel.components.report.class_labels import shortened
from optduel.components.report.drawing import COLOURS, MARKERS, Figure, printable
from optduel.components.results import Trial

ROC_PANELS = 20
"""With more classes than this only those with the smallest areas get a panel; tables list them all."""

LABELLED_CLASSES = 30
"""With more classes than this the confusion matrix has no names on its axes."""

COUNTED_CLASSES = 12
"""With more classes than this the confusion matrix shows colours without counts."""

_TITLE_COLUMNS = 28
_LABEL_COLUMNS = 14
"""Of class names; a wide letter takes two."""

_GRID = np.concatenate([[0], np.linspace(0, 1, 101)])
"""False positive rates: 0 twice, because a ROC may rise there."""


def roc_figure(arms: Mapping[str, Sequence[Trial]]) -> Figure | None:
    """One panel per class: true positive rate over false positive rate, median and range over the seeds.

    Curves of different seeds are summed up vertically, at equal false positive rates (Fawcett, An
    Introduction to ROC Analysis, 2006, section 8). None where no class has a ROC.
    """
    shown = hardest_classes(arms)
    if not shown:
        return None
    rows = math.ceil(len(shown) / 4)
    columns = math.ceil(len(shown) / rows)
    figure = Figure(figsize=(2.2 * max(columns, 2), 2.3 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes in panels[max(len(shown) - columns, 0) : len(shown)]:
        axes.tick_params(labelbottom=True)  # also above a hidden panel
    names = shortened([entry.name for entry in _first(arms).evaluation.classes], _TITLE_COLUMNS)
    for axes, index in zip(panels, shown, strict=False):
        for number, (arm, trials) in enumerate(arms.items()):
            if not trials:
                continue
            rates = _true_positive_rates(trials, index)
            axes.plot(_GRID, np.median(rates, axis=0), color=COLOURS[number], linewidth=1.3, label=arm)
            if len(rates) > 1:
                axes.fill_between(
                    _GRID,
                    rates.min(axis=0),
                    rates.max(axis=0),
                    color=COLOURS[number],
                    alpha=0.15,
                    linewidth=0,
                )
        axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, linestyle=":")
        axes.set_title(printable(names[index]), fontsize="medium")
    figure.supxlabel("False positive rate", fontsize="medium")
    figure.supylabel("True positive rate", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize="small")
    return figure


def hardest_classes(arms: Mapping[str, Sequence[Trial]]) -> list[int]:
    """The classes that have a ROC, in their order; of more than ROC_PANELS those with the smallest areas."""
    areas: dict[int, float] = {}
    for trials in arms.values():
        for trial in trials:
            for index, entry in enumerate(trial.evaluation.classes):
                if entry.area_under_roc is not None:
                    areas[index] = min(areas.get(index, 1), entry.area_under_roc)
    return sorted(sorted(areas, key=areas.__getitem__)[:ROC_PANELS])


def _true_positive_rates(trials: Sequence[Trial], index: int) -> NDArray[np.float64]:
    """Float64 [seeds, 102]: the ROC of one class at the false positive rates of the grid."""
    curves = [np.array(trial.evaluation.classes[index].roc) for trial in trials]
    rates = np.array([np.interp(_GRID, curve[:, 0], curve[:, 1]) for curve in curves])
    rates[:, 0] = 0  # where a curve rises vertically, np.interp takes the upper end
    return rates


def calibration_figure(arms: Mapping[str, Sequence[Trial]]) -> Figure:
    """Accuracy over confidence in ten bins, pooled over the seeds; on the diagonal confidence is honest."""
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#777777", linestyle=":", label="calibrated")
    for number, (arm, trials) in enumerate(arms.items()):
        if not trials:
            continue
        confidence, accuracy, share = pooled_calibration(trials)
        axes.plot(confidence, accuracy, color=COLOURS[number], label=arm)
        axes.scatter(
            confidence, accuracy, s=20 + 180 * share, color=COLOURS[number], marker=MARKERS[number], zorder=3
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("Confidence: the largest probability")
    axes.set_ylabel("Accuracy")
    axes.set_title("Calibration")
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize="small")
    return figure


def pooled_calibration(
    trials: Sequence[Trial],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean confidence, accuracy and share of the examples of each bin that holds any, over all trials."""
    bins = [trial.evaluation.calibration for trial in trials]
    examples = np.array([[entry.examples for entry in row] for row in bins], dtype=np.float64)
    confidence = np.array([[entry.confidence for entry in row] for row in bins])
    accuracy = np.array([[entry.accuracy for entry in row] for row in bins])
    total = examples.sum(axis=0)
    filled = total > 0
    mean_confidence = (confidence * examples).sum(axis=0)[filled] / total[filled]
    mean_accuracy = (accuracy * examples).sum(axis=0)[filled] / total[filled]
    return mean_confidence, mean_accuracy, total[filled] / total.sum()


def confusion_figure(arm: str, trials: Sequence[Trial]) -> Figure:
    """The confusion matrix of one arm, counts pooled over the seeds, coloured by share of the true class."""
    names = shortened([entry.name for entry in trials[0].evaluation.classes], _LABEL_COLUMNS)
    counts = pooled_confusion(trials)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(3.6, 0.3 * len(names) + 1.8), 7.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(arm)
    if len(names) <= LABELLED_CLASSES:
        labels = [printable(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize="small")
        axes.set_yticks(range(len(names)), labels, fontsize="small")
    if len(names) <= COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "#333333"
            axes.text(column, row, str(count), ha="center", va="center", fontsize="small", color=colour)
    return figure


def pooled_confusion(trials: Sequence[Trial]) -> NDArray[np.int64]:
    """Int64 [classes, classes]: counts of all trials together; rows are true classes."""
    counts: NDArray[np.int64] = np.array([trial.evaluation.confusion for trial in trials], np.int64).sum(
        axis=0
    )
    return counts


def _first(arms: Mapping[str, Sequence[Trial]]) -> Trial:
    return next(trials[0] for trials in arms.values() if trials)

"""Final results of each arm over its seeds, and of each class."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optduel.components.report.diagnostics import pooled_confusion
from optduel.components.report.numbers import ABSENT, decimal, percentage
from optduel.components.results import ClassMetrics, Evaluation, Trial

CONFUSIONS_LISTED = 5
"""Of each arm: the most frequent kinds of mistake."""


@dataclass(frozen=True)
class Spread:
    """A metric over the seeds, in words."""

    median: str
    low: str
    high: str


@dataclass(frozen=True)
class MetricRow:
    """One metric of all arms, in the order of the arms; `better` says which way is good."""

    name: str
    better: str
    arms: list[Spread]


@dataclass(frozen=True)
class ClassRow:
    """One class of one arm: medians over the seeds, of the recall's interval bounds too."""

    arm: str
    precision: str
    recall: str
    interval: str
    f1: str
    area: str


@dataclass(frozen=True)
class Confusion:
    """A kind of mistake: how often, in all trials of an arm together, and in what share of the true class."""

    true: str
    predicted: str
    count: int
    share: str


def metric_rows(arms: Mapping[str, Sequence[Trial]]) -> list[MetricRow]:
    """Every final metric: median, smallest and largest over the seeds."""
    metrics: list[tuple[str, str, Callable[[Evaluation], float | None], Callable[[float | None], str]]] = [
        ("accuracy", "higher", lambda evaluation: evaluation.accuracy.value, lambda v: percentage(v, 2)),
        (
            "cross-entropy, nats",
            "lower",
            lambda evaluation: evaluation.cross_entropy.value,
            lambda v: decimal(v, 4),
        ),
        (
            "balanced accuracy",
            "higher",
            lambda evaluation: evaluation.balanced_accuracy,
            lambda v: percentage(v, 2),
        ),
        ("macro F1", "higher", lambda evaluation: evaluation.macro_f1, decimal),
        (
            "macro area under ROC",
            "higher",
            lambda evaluation: evaluation.macro_area_under_roc,
            lambda v: decimal(v, 4),
        ),
        (
            "expected calibration error",
            "lower",
            lambda evaluation: evaluation.expected_calibration_error,
            decimal,
        ),
    ]
    return [
        MetricRow(
            name,
            better,
            [_spread([of(trial.evaluation) for trial in trials], text) for trials in arms.values()],
        )
        for name, better, of, text in metrics
    ]


def class_rows(arms: Mapping[str, Sequence[Trial]]) -> list[tuple[ClassMetrics, list[ClassRow]]]:
    """Each class, as the first trial names and counts it, with a row for each arm; there is such a trial."""
    first = next(trials[0] for trials in arms.values() if trials).evaluation.classes
    return [
        (
            entry,
            [
                _class_row(arm, [trial.evaluation.classes[index] for trial in trials])
                for arm, trials in arms.items()
            ],
        )
        for index, entry in enumerate(first)
    ]


def frequent_confusions(trials: Sequence[Trial]) -> list[Confusion]:
    """The most frequent mistakes of one arm, pooled over its seeds, most frequent first."""
    if not trials:
        return []
    counts = pooled_confusion(trials)
    examples = counts.sum(axis=1)
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSIONS_LISTED]
    names = [entry.name for entry in trials[0].evaluation.classes]
    return [
        Confusion(
            names[row],
            names[column],
            int(mistakes[row, column]),
            percentage(mistakes[row, column] / examples[row]),
        )
        for row, column in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if mistakes[row, column]
    ]


def _spread(values: Sequence[float | None], text: Callable[[float | None], str]) -> Spread:
    known = [value for value in values if value is not None]
    if not known:
        return Spread(ABSENT, ABSENT, ABSENT)
    return Spread(text(statistics.median(known)), text(min(known)), text(max(known)))


def _class_row(arm: str, entries: Sequence[ClassMetrics]) -> ClassRow:
    if not entries:
        return ClassRow(arm, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT)
    areas = [entry.area_under_roc for entry in entries if entry.area_under_roc is not None]
    median = statistics.median
    low = percentage(median(entry.recall.low for entry in entries))
    high = percentage(median(entry.recall.high for entry in entries))
    return ClassRow(
        arm=arm,
        precision=percentage(median(entry.precision for entry in entries)),
        recall=percentage(median(entry.recall.value for entry in entries)),
        interval=f"{low} to {high}",
        f1=decimal(median(entry.f1 for entry in entries)),
        area=decimal(median(areas)) if areas else ABSENT,
    )

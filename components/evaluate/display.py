"""Fills the artifacts that the KFP run page shows without opening a file."""

from pathlib import Path
from typing import Any

from optduel.components.results import Evaluation
from optduel.components.settings import canonical_json
from optduel.components.storage import publish

SHOWN_CLASSES = 50
"""The confusion matrix of more classes is unreadable and its JSON too large for the metadata store."""


def show_metrics(evaluation: Evaluation, metrics: Any) -> None:
    """Logs the scalars.

    Args:
        evaluation: what to show.
        metrics: a `kfp.dsl.Metrics`; its file is written too, because a local run caches by files.
    """
    scalars: dict[str, float | str] = {
        "split": evaluation.split,
        "examples": float(evaluation.examples),
        "accuracy": evaluation.accuracy.value,
        "accuracy_low": evaluation.accuracy.low,
        "accuracy_high": evaluation.accuracy.high,
        "cross_entropy": evaluation.cross_entropy.value,
        "macro_f1": evaluation.macro_f1,
        "expected_calibration_error": evaluation.expected_calibration_error,
    }
    if evaluation.macro_area_under_roc is not None:
        scalars["macro_area_under_roc"] = evaluation.macro_area_under_roc
    metrics.metadata.update(scalars)
    publish(Path(metrics.path), canonical_json(scalars).encode())


def show_classification(evaluation: Evaluation, classification: Any) -> None:
    """Logs the confusion matrix, and the ROC curve of the class that is hardest to tell from the rest.

    Args:
        evaluation: what to show.
        classification: a `kfp.dsl.ClassificationMetrics`, which holds one curve; the report has all.
    """
    if len(evaluation.classes) <= SHOWN_CLASSES:
        names = [metrics.name for metrics in evaluation.classes]
        classification.log_confusion_matrix(names, [list(row) for row in evaluation.confusion])
    rated = [metrics for metrics in evaluation.classes if metrics.area_under_roc is not None]
    if rated:
        hardest = min(rated, key=lambda metrics: metrics.area_under_roc or 0.0)
        false_positive, true_positive, thresholds = zip(*hardest.roc, strict=True)
        classification.log_roc_curve(list(false_positive), list(true_positive), list(thresholds))
        classification.metadata["roc_class"] = hardest.name
    publish(Path(classification.path), canonical_json(evaluation.confusion).encode())

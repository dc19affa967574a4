"""Fills the artifacts that the KFP run page shows without opening a file."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optduel.components.champions import Measured
from optduel.components.results import Evaluation
from optduel.components.settings import canonical_json
from optduel.components.storage import publish

SHOWN_CLASSES = 50
"""The confusion matrix of more classes is unreadable and its JSON too large for the metadata store."""


def show_metrics(evaluations: Sequence[Evaluation], diverged: int, metrics: Any) -> None:
    """Logs the scalars, of several trials each one's median, and how many diverged, if any did.

    Args:
        evaluations: what to show.
        diverged: further trials, which have no evaluation.
        metrics: a `kfp.dsl.Metrics`; its file is written too, because a local run caches by files.
    """
    found = [_scalars(evaluation) for evaluation in evaluations]
    medians = {
        name: statistics.median(scalars[name] for scalars in found)
        for name in (found[0] if found else ())
        if all(name in scalars for scalars in found)
    }
    if diverged:
        medians["diverged"] = float(diverged)
    metrics.metadata.update(medians)
    publish(Path(metrics.path), canonical_json(medians).encode())


def _scalars(evaluation: Evaluation) -> dict[str, float]:
    """Short names: Kubeflow Pipelines makes a column of each, for every task and run."""
    scalars = {
        "accuracy": evaluation.accuracy.value,
        "accuracy_low": evaluation.accuracy.low,
        "accuracy_high": evaluation.accuracy.high,
        "cross_entropy": evaluation.cross_entropy.value,
        "macro_f1": evaluation.macro_f1,
        "calibration_error": evaluation.expected_calibration_error,
    }
    if evaluation.macro_area_under_roc is not None:
        scalars["macro_auc"] = evaluation.macro_area_under_roc
    return scalars


def show_measured(measured: Measured, metrics: Any) -> None:
    """Logs how many images are left to judge the champion by, as `show_metrics` does."""
    counts = {
        "test_images": float(measured.test_images),
        "seen_images": float(measured.seen_images),
        "judged_images": float(measured.judged_images),
    }
    metrics.metadata.update(counts)
    publish(Path(metrics.path), canonical_json(counts).encode())


def show_classification(evaluations: Sequence[Evaluation], classification: Any) -> None:
    """Logs the confusion matrix, and the ROC curve of the class that is hardest to tell from the rest.

    Args:
        evaluations: the one of median accuracy, the lower of two, is shown; nothing where there is none.
        classification: a `kfp.dsl.ClassificationMetrics`, which holds one matrix and one curve; the report
            has all.
    """
    if not evaluations:
        publish(Path(classification.path), canonical_json([]).encode())
        return
    ranked = sorted(evaluations, key=lambda evaluation: evaluation.accuracy.value)
    shown = ranked[(len(ranked) - 1) // 2]
    if len(shown.classes) <= SHOWN_CLASSES:
        names = [metrics.name for metrics in shown.classes]
        classification.log_confusion_matrix(names, [list(row) for row in shown.confusion])
    rated = [metrics for metrics in shown.classes if metrics.area_under_roc is not None]
    if rated:
        hardest = min(rated, key=lambda metrics: metrics.area_under_roc or 0.0)
        false_positive, true_positive, thresholds = zip(*hardest.roc, strict=True)
        classification.log_roc_curve(list(false_positive), list(true_positive), list(thresholds))
        classification.metadata["roc_class"] = hardest.name
    classification.metadata["seed"] = float(shown.seed)
    publish(Path(classification.path), canonical_json(shown.confusion).encode())

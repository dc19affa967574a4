"""Metrics of a classifier from its predicted probabilities: NumPy in, the numbers of an Evaluation out.

Every number is finite. What has no natural value is defined here: precision and F1 of a class that is never
predicted are 0; recall of a class without examples is 0 with the interval 0 to 1; the ROC of a class that
holds all examples or none is empty and its area None; macro averages leave such classes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats
import sklearn.metrics
from numpy.typing import NDArray

from optduel.components.core import DataError
from optduel.components.results import CalibrationBin, ClassMetrics, Evaluation, Interval

ROC_POINTS = 101
"""Points that a thinned ROC has at most: KFP's page stays quick up to some hundred."""

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Scores:
    """The numbers of an Evaluation, under the same names, before they belong to a trial."""

    examples: int
    accuracy: Interval
    cross_entropy: Interval
    macro_f1: float
    macro_area_under_roc: float | None
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[CalibrationBin, ...]
    expected_calibration_error: float

    def as_evaluation(
        self, arm: str, seed: int, split: Literal["test", "validation"], model_sha256: str
    ) -> Evaluation:
        """These numbers as the evaluation of one trial."""
        return Evaluation(arm=arm, seed=seed, split=split, model_sha256=model_sha256, **vars(self))


def evaluate_probabilities(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    confidence: float,
) -> Scores:
    """Measures predicted probabilities against labels.

    Args:
        probabilities: float64 [n, classes], finite, rows sum to 1.
        labels: int [n], 0..classes-1.
        class_names: one for each column.
        confidence: level of every interval, 0..1.

    Raises:
        DataError: there is no example.
    """
    if not len(labels):
        raise DataError("examples = 0: metrics need at least one; give the split a larger fraction")
    class_count = len(class_names)
    predictions = probabilities.argmax(axis=1)
    pairs = labels.astype(np.int64) * class_count + predictions
    confusion = np.bincount(pairs, minlength=class_count**2).reshape(class_count, class_count)
    classes = tuple(
        _class_metrics(name, confusion, index, labels == index, probabilities[:, index], confidence)
        for index, name in enumerate(class_names)
    )
    calibration = _calibration(probabilities.max(axis=1), predictions == labels)
    areas = [entry.area_under_roc for entry in classes if entry.area_under_roc is not None]
    return Scores(
        examples=len(labels),
        accuracy=wilson_interval(int(np.trace(confusion)), len(labels), confidence),
        cross_entropy=_cross_entropy(probabilities[np.arange(len(labels)), labels], confidence),
        macro_f1=float(np.mean([entry.f1 for entry in classes if entry.examples])),
        macro_area_under_roc=float(np.mean(areas)) if areas else None,
        classes=classes,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        calibration=calibration,
        expected_calibration_error=sum(
            entry.examples * abs(entry.confidence - entry.accuracy) for entry in calibration
        )
        / len(labels),
    )


def wilson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """A proportion with its Wilson score interval; 0 with the interval 0 to 1 when there are no trials.

    Reference: Wilson, J. Am. Stat. Assoc. 22 (1927) 209, without continuity correction.
    """
    if not trials:
        return Interval(value=0, low=0, high=1)
    bounds = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(value=successes / trials, low=float(bounds.low), high=float(bounds.high))


def _cross_entropy(label_probabilities: NDArray[np.float64], confidence: float) -> Interval:
    """Mean of -log p of the true class, in nats, with the normal-theory interval of a mean, cut at 0.

    A probability that underflowed to 0 counts as the smallest normal float64: 708 nats instead of infinity.
    A single example has no spread, so that its interval is its value.
    """
    losses = -np.log(np.clip(label_probabilities, np.finfo(np.float64).tiny, 1))
    mean, count = float(losses.mean()), len(losses)
    standard_error = float(losses.std(ddof=1)) / np.sqrt(count) if count > 1 else 0
    half_width = float(scipy.stats.norm.ppf((1 + confidence) / 2) * standard_error)
    return Interval(value=mean, low=max(mean - half_width, 0), high=mean + half_width)


def _class_metrics(
    name: str,
    confusion: NDArray[np.integer],
    index: int,
    is_class: NDArray[np.bool_],
    scores: NDArray[np.float64],
    confidence: float,
) -> ClassMetrics:
    hits = int(confusion[index, index])
    examples = int(confusion[index].sum())
    predicted = int(confusion[:, index].sum())
    curve = _roc(is_class, scores) if 0 < examples < len(is_class) else np.empty((0, 3))
    return ClassMetrics(
        name=name,
        examples=examples,
        precision=hits / predicted if predicted else 0,
        recall=wilson_interval(hits, examples, confidence),
        f1=2 * hits / (examples + predicted) if examples + predicted else 0,
        area_under_roc=float(sklearn.metrics.auc(curve[:, 0], curve[:, 1])) if len(curve) else None,
        roc=tuple((float(x), float(y), float(threshold)) for x, y, threshold in _thinned(curve)),
    )


def _roc(is_class: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Float64 [points, 3]: false positive rate, true positive rate, threshold; from (0, 0) to (1, 1)."""
    false_positives, true_positives, thresholds = sklearn.metrics.roc_curve(is_class, scores)
    # scikit-learn's first threshold is infinite, which neither JSON nor KFP can carry.
    return np.column_stack([false_positives, true_positives, np.clip(thresholds, 0, 1)])


def _thinned(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most ROC_POINTS points of the curve, about equally far apart along it; its ends stay."""
    if len(curve) <= ROC_POINTS:
        return curve
    distance = curve[:, 0] + curve[:, 1]
    chosen = np.searchsorted(distance, np.linspace(0, distance[-1], ROC_POINTS))
    return curve[np.unique(chosen)]


def _calibration(confidences: NDArray[np.float64], is_right: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    """Ten bins, each including its upper edge; an empty one is said to be calibrated at its middle.

    Reference: equations 1 to 3 of Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599).
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.digitize(confidences, edges[1:-1], right=True)
    entries = []
    for index, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        inside = bins == index
        middle = (low + high) / 2
        entries.append(
            CalibrationBin(
                low=float(low),
                high=float(high),
                examples=int(inside.sum()),
                confidence=float(confidences[inside].mean() if inside.any() else middle),
                accuracy=float(is_right[inside].mean() if inside.any() else middle),
            )
        )
    return tuple(entries)

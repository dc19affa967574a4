"""How two classifiers differ on the same images: differences, intervals, p-values. NumPy in, numbers out.

Every difference is the candidate's value minus the champion's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.stats
from numpy.typing import NDArray

from optduel.components.results import Interval

RESAMPLES = 4000
"""Of a bootstrap. The bounds of a 95 % interval then scatter by about 3 % of its width."""

_CHUNK_VALUES = 1 << 22
"""Drawn at a time: 32 MiB."""

_BOOTSTRAP_SEED = 0
"""The same images give the same interval."""


@dataclass(frozen=True)
class Outcomes:
    """What both models said of the same images, whose classes both know.

    Attributes:
        labels: int64 [n], the true class, 0..classes-1 of the candidate's classes.
        candidate: int64 [n], the class that the candidate predicts.
        champion: int64 [n], likewise; -1 for a class that the candidate does not know.
        candidate_losses: float64 [n], -log of the probability that it gives to the true class, in nats.
        champion_losses: float64 [n], likewise.
        classes: number of the candidate's classes.
    """

    labels: NDArray[np.int64]
    candidate: NDArray[np.int64]
    champion: NDArray[np.int64]
    candidate_losses: NDArray[np.float64]
    champion_losses: NDArray[np.float64]
    classes: int


def mcnemar_p_value(won: int, lost: int) -> float:
    """The exact two-sided McNemar test, by the binomial distribution of the images that differ.

    Reference: McNemar, Psychometrika 12 (1947) 153.

    Args:
        won: images that only the candidate has right.
        lost: images that only the champion has right.
    """
    return float(scipy.stats.binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def accuracy_difference(won: int, lost: int, images: int, confidence: float) -> Interval:
    """The difference of two accuracies on the same images, with its score interval.

    Reference: Tango, Statistics in Medicine 17 (1998) 891. Unlike Wald's interval it holds its level when few
    images differ, and is no point when none does.

    Args:
        won: images that only the candidate has right.
        lost: images that only the champion has right.
        images: all of them, at least one.
    """
    difference = (won - lost) / images
    critical = float(scipy.stats.norm.ppf((1 + confidence) / 2))

    def excess(supposed: float, side: int) -> float:
        return side * _score(won, lost, images, supposed) - critical

    low = -1.0 if excess(-1, 1) <= 0 else scipy.optimize.brentq(excess, -1, difference, args=(1,))
    high = 1.0 if excess(1, -1) <= 0 else scipy.optimize.brentq(excess, difference, 1, args=(-1,))
    return Interval(value=difference, low=float(low), high=float(high))


def _score(won: int, lost: int, images: int, supposed: float) -> float:
    """Tango's score statistic for a supposed difference; about standard normal if it is the true one."""
    a = 2 * images
    b = -won - lost + (2 * images - won + lost) * supposed
    c = -lost * supposed * (1 - supposed)
    only_champion = (math.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
    variance = images * (2 * only_champion + supposed * (1 - supposed))
    distance = won - lost - images * supposed
    if variance <= 0:
        return 0.0 if not distance else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def loss_difference(outcomes: Outcomes, confidence: float) -> Interval:
    """The difference of mean cross-entropies in nats, with its percentile bootstrap interval over images."""
    differences = outcomes.candidate_losses - outcomes.champion_losses
    count = len(differences)
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    step = max(1, _CHUNK_VALUES // count)
    means = np.concatenate(
        [
            differences[generator.integers(count, size=(min(step, RESAMPLES - start), count))].mean(axis=1)
            for start in range(0, RESAMPLES, step)
        ]
    )
    return _percentiles(float(differences.mean()), means, confidence)


def f1_difference(outcomes: Outcomes, confidence: float) -> Interval:
    """The difference of macro F1, with its percentile bootstrap interval over images.

    Images with the same label and the same two predictions are alike, so that numbers of them are drawn.
    """
    size = outcomes.classes + 1  # one more for classes that only the champion knows
    cells = (outcomes.labels * size + outcomes.candidate % size) * size + outcomes.champion % size
    kinds, counts = np.unique(cells, return_counts=True)
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    count = len(cells)
    labels, candidate, champion = kinds // size**2, kinds // size % size, kinds % size
    step = max(1, _CHUNK_VALUES // max(len(kinds), size))

    def difference(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return _macro_f1(drawn, labels, candidate, size) - _macro_f1(drawn, labels, champion, size)

    resampled = np.concatenate(
        [
            difference(generator.multinomial(count, counts / count, size=min(step, RESAMPLES - start)))
            for start in range(0, RESAMPLES, step)
        ]
    )
    return _percentiles(float(difference(counts[np.newaxis])[0]), resampled, confidence)


def macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    """Mean F1 of the classes that have images; -1 is a prediction of none of the classes."""
    size = classes + 1
    kinds, counts = np.unique(labels * size + predicted % size, return_counts=True)
    return float(_macro_f1(counts[np.newaxis], kinds // size, kinds % size, size)[0])


def _macro_f1(
    counts: NDArray[np.int64], labels: NDArray[np.int64], predicted: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """Macro F1 of each of several samples, float64 [samples].

    Args:
        counts: int64 [samples, kinds], how often a kind of image is in a sample.
        labels: int64 [kinds].
        predicted: int64 [kinds].
        size: one more than the classes; the last index stands for none of them.
    """

    def per_class(index: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        place = (np.arange(len(chosen)), index[chosen])
        indicator = scipy.sparse.csr_array((np.ones(len(chosen), np.int64), place), (len(chosen), size))
        return np.asarray(counts[:, chosen] @ indicator)

    every = np.arange(len(labels))
    right = per_class(labels, np.flatnonzero(labels == predicted))
    actual = per_class(labels, every)
    total = actual + per_class(predicted, every)
    f1 = np.divide(2 * right, total, out=np.zeros(total.shape), where=total > 0)
    present = actual > 0
    return np.asarray((f1 * present).sum(axis=1) / present.sum(axis=1), dtype=np.float64)


def recall_changes(outcomes: Outcomes) -> dict[int, tuple[int, int, int]]:
    """For each class: its images, and how many only the candidate, only the champion has right."""
    candidate_right = outcomes.candidate == outcomes.labels
    champion_right = outcomes.champion == outcomes.labels
    return {
        int(label): (
            int(np.count_nonzero(of_class := outcomes.labels == label)),
            int(np.count_nonzero(of_class & candidate_right & ~champion_right)),
            int(np.count_nonzero(of_class & ~candidate_right & champion_right)),
        )
        for label in np.unique(outcomes.labels)
    }


def _percentiles(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    outside = (1 - confidence) / 2
    low, high = np.quantile(resampled, [outside, 1 - outside])
    return Interval(value=value, low=float(low), high=float(high))


DIFFERENCES: dict[str, Callable[[Outcomes, float], Interval]] = {
    "accuracy": lambda outcomes, confidence: accuracy_difference(
        *_won_and_lost(outcomes), len(outcomes.labels), confidence
    ),
    "cross_entropy": loss_difference,
    "macro_f1": f1_difference,
}
"""The difference of each metric, with its interval at a level."""


def _won_and_lost(outcomes: Outcomes) -> tuple[int, int]:
    changes = recall_changes(outcomes).values()
    return sum(won for _, won, _ in changes), sum(lost for _, _, lost in changes)

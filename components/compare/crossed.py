"""Does a difference hold on other images of the kind? Statistics of seeds and images together.

Every trial predicts the same images, so the differences form a table of seeds x images. Its mean varies with
the seeds that were drawn, with the images that were drawn, and with what is left; the three are told apart as
an analysis of variance does.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from optduel.components.results import Predictions
from optduel.components.settings import Metric


class Estimate(NamedTuple):
    """A mean difference with its standard error, whose uncertainty is that of Student's t.

    Attributes:
        degrees: of freedom.
    """

    mean: float
    standard_error: float
    degrees: float

    def interval(self, level: float) -> tuple[float, float]:
        """Student's t interval, which misses the mean with the chance `level`."""
        half = float(scipy.stats.t.isf(level / 2, self.degrees)) * self.standard_error
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Two-sided; 1 where nothing differs."""
        if not self.standard_error:
            return float(self.mean == 0)
        return float(2 * scipy.stats.t.sf(abs(self.mean) / self.standard_error, self.degrees))


class Variances(NamedTuple):
    """What one seed, one image, and one seed with one image vary by; never negative."""

    seeds: float
    images: float
    rest: float

    def estimate(self, mean: float, seeds: float, images: float) -> Estimate:
        """The mean of a table of so many seeds and images with these variances, two or more of both.

        Reference: Satterthwaite, Biometrics Bulletin 2 (1946) 110, for the degrees of freedom.
        """
        cells = seeds * images
        by_seed, by_image = self.rest + images * self.seeds, self.rest + seeds * self.images
        variance = (by_seed + by_image - self.rest) / cells
        parts = (
            (by_seed / cells) ** 2 / (seeds - 1)
            + (by_image / cells) ** 2 / (images - 1)
            + (self.rest / cells) ** 2 / ((seeds - 1) * (images - 1))
        )
        return Estimate(mean, float(np.sqrt(variance)), variance**2 / parts if parts else cells - 1)


def variance_components(differences: NDArray[np.float64]) -> Variances:
    """The variances that a table of differences shows.

    Args:
        differences: float64 [seeds, images], two or more of both.

    Reference: Searle, Casella and McCulloch, Variance Components, 1992, section 4.3; a negative one is 0.
    """
    seeds, images = differences.shape
    rows, columns, mean = differences.mean(axis=1), differences.mean(axis=0), differences.mean()
    residuals = differences - rows[:, None] - columns + mean
    rest = float((residuals**2).sum()) / ((seeds - 1) * (images - 1))
    return Variances(
        seeds=max(float(rows.var(ddof=1)) - rest / images, 0),
        images=max(float(columns.var(ddof=1)) - rest / seeds, 0),
        rest=rest,
    )


def resampled(differences: NDArray[np.float64], test_share: float) -> Estimate:
    """The mean difference of seeds that each draw a split of their own from the same images.

    Their training and test images overlap, so they vary less than fresh images would make them.

    Args:
        differences: float64 [seeds], two or more.
        test_share: images of the split that is measured for each image of the training split.

    Reference: Nadeau and Bengio, Machine Learning 52 (2003) 239, the corrected resampled t-test.
    """
    seeds = len(differences)
    variance = float(differences.var(ddof=1)) * (1 / seeds + test_share)
    return Estimate(float(differences.mean()), float(np.sqrt(variance)), seeds - 1)


def per_image(metric: Metric, predictions: Predictions) -> NDArray[np.float64]:
    """What each image adds to a metric: values whose mean is the metric, and that vary as it does.

    For accuracy and cross-entropy they are the images' own. For the others they are the metric plus its
    influence function, so that means of them are metrics to first order (the infinitesimal jackknife).

    Returns:
        float64 [examples].

    Reference: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6; DeLong, DeLong
    and Clarke-Pearson, Biometrics 44 (1988) 837, for the area under the ROC.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    count = len(labels)
    is_right = probabilities.argmax(axis=1) == labels
    if metric == "accuracy":
        return np.asarray(is_right, np.float64)
    if metric == "cross_entropy":
        of_label = probabilities[np.arange(count), labels]
        return np.asarray(-np.log(np.clip(of_label, np.finfo(np.float64).tiny, 1)))
    # Macro averages leave out classes without examples, and areas those that hold all, too.
    sizes = np.bincount(labels, minlength=probabilities.shape[1])
    classes = np.flatnonzero(sizes)
    if metric == "area_under_roc":
        classes = classes[sizes[classes] < count]
        parts = [_area(labels == index, probabilities[:, index]) for index in classes]
        return np.asarray(np.mean(parts, axis=0))
    if metric == "balanced_accuracy":
        recalls = np.bincount(labels, is_right, len(sizes))[classes] / sizes[classes]
        of_class = np.zeros(len(sizes))
        of_class[classes] = recalls
        influence = count * (is_right - of_class[labels]) / sizes[labels]
        return np.asarray(float(recalls.mean()) + influence / len(classes))
    predicted = probabilities.argmax(axis=1)
    chosen = np.bincount(predicted, minlength=len(sizes))
    hits = np.bincount(labels, is_right, len(sizes))
    scores = 2 * hits / np.maximum(sizes + chosen, 1)
    weight = np.where(sizes > 0, count / np.maximum(sizes + chosen, 1), 0)
    influence = (
        2 * is_right * weight[labels]
        - scores[labels] * weight[labels]
        - scores[predicted] * weight[predicted]
    )
    return np.asarray(float(scores[classes].mean()) + influence / len(classes))


def _area(is_class: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of one class against the rest: every image's share of the others that it is on the right side of."""
    positives, negatives = np.sort(scores[is_class]), np.sort(scores[~is_class])
    below = np.searchsorted(negatives, scores, "left") + np.searchsorted(negatives, scores, "right")
    above = np.searchsorted(positives, scores, "left") + np.searchsorted(positives, scores, "right")
    placements = np.where(is_class, below / (2 * len(negatives)), 1 - above / (2 * len(positives)))
    area = float(placements[is_class].mean())
    own = np.where(is_class, len(positives), len(negatives))
    return np.asarray(area + len(scores) * (placements - area) / own)

"""What differs between the champion's images and today's, and whether new ones are of another kind."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from optduel.components.champions import ClassChange, ImageList

_RESAMPLES = 9999
_SEED = 0
_SMALLEST_EXPECTED = 5
"""Below it in any class, the distribution of chi-squared is simulated: Cochran's rule."""


@dataclass(frozen=True)
class Shift:
    """A measured quantity of the champion's images, and of those that were added: quartiles and extremes."""

    name: str
    before: tuple[float, ...]
    added: tuple[float, ...]
    p_value: float | None


@dataclass(frozen=True)
class Changes:
    """The difference of two data sets.

    Attributes:
        classes: in the order of names.
        drift_p_value: of the test that the added images have the class shares of the champion's; None where
            none was added, or all are of one class.
        brightness: of both; None where no image was added.
    """

    classes: tuple[ClassChange, ...]
    drift_p_value: float | None
    brightness: Shift | None


def compare_images(before: ImageList, after: ImageList) -> Changes:
    """The difference of two data sets; which split an image is in does not count."""
    old, new = (
        dict(zip(before.images, before.classes, strict=True)),
        dict(zip(after.images, after.classes, strict=True)),
    )
    was, now = Counter(before.classes), Counter(after.classes)
    is_added = np.array([image not in old for image in after.images], dtype=bool)
    added = Counter(name for name, one in zip(after.classes, is_added, strict=True) if one)
    removed = Counter(
        name for image, name in zip(before.images, before.classes, strict=True) if image not in new
    )
    relabelled = Counter(name for image, name in new.items() if image in old and old[image] != name)
    names = sorted(was.keys() | now.keys())
    return Changes(
        classes=tuple(
            ClassChange(
                name=name,
                before=was[name],
                after=now[name],
                added=added[name],
                removed=removed[name],
                relabelled=relabelled[name],
            )
            for name in names
        ),
        drift_p_value=share_drift([was[name] for name in names], [added[name] for name in names]),
        brightness=_spread("brightness", before.brightness, after.brightness[is_added]),
    )


def share_drift(before: list[int], added: list[int]) -> float | None:
    """Pearson's chi-squared test that two samples have one distribution over classes.

    With small expected counts, where the approximation fails, the samples are permuted instead.

    Args:
        before: images of each class.
        added: likewise.

    Returns:
        The p-value; None where a sample is empty, or there is one class only.
    """
    table = np.array([before, added])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return None
    expected = scipy.stats.contingency.expected_freq(table)
    method = None
    if expected.min() < _SMALLEST_EXPECTED:
        method = scipy.stats.PermutationMethod(n_resamples=_RESAMPLES, rng=np.random.default_rng(_SEED))
    return float(scipy.stats.chi2_contingency(table, correction=False, method=method).pvalue)


def _spread(name: str, before: NDArray[np.float64], added: NDArray[np.float64]) -> Shift | None:
    if not len(added) or not len(before):
        return None
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    test = scipy.stats.ks_2samp(before, added)
    return Shift(
        name,
        tuple(np.quantile(before, marks).tolist()),
        tuple(np.quantile(added, marks).tolist()),
        float(test.pvalue),
    )

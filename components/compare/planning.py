"""How many more seeds, and how many images, would show a difference of the size that was found."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special
from numpy.typing import NDArray

from optduel.components.compare.crossed import Variances
from optduel.components.compare.inference import EXACT_SEEDS, SignFlips
from optduel.components.settings import looks_until

POWER = 0.8
"""The chance to show a difference that is really there; the usual one (Cohen 1988)."""

MOST_SEEDS = 150
"""Looks beyond that have next to no error left."""

MOST_IMAGES = 10_000_000


def seeds_to_show(differences: NDArray[np.float64], looks: Sequence[int], level: float) -> int | None:
    """The smallest number of seeds at whose look the sign-flip test shows the difference with POWER.

    That is if the true mean and spread are those observed, and differences are about normal.

    Args:
        differences: float64 [seeds], two or more.
        looks: at which numbers of seeds there was a look; the last one has all differences.
        level: the error that is allowed over all looks, divided by the number of comparisons.

    Returns:
        More than there are differences; None where more than MOST_SEEDS would be needed.
    """
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    if not mean:
        return None
    for seeds, nominal in nominal_levels(looks[0], level).items():
        if seeds > looks[-1] and nominal and _chance(mean, spread, seeds, nominal) >= POWER:
            return seeds
    return None


def images_to_show(mean: float, variances: Variances, seeds: int, images: int, level: float) -> int | None:
    """The smallest number of images with which the interval over seeds and images excludes 0 with POWER.

    Args:
        mean: the difference.
        variances: of seeds, images and what is left.
        seeds: that the study will have.
        images: that the split has; never fewer are asked for.
        level: the error that is allowed, divided by the number of comparisons.

    Returns:
        Two significant digits, rounded up; None where no number would do with so many seeds.
    """

    def suffices(count: int) -> bool:
        estimate = variances.estimate(mean, seeds, count)
        if not estimate.standard_error:
            return mean != 0
        return _student(abs(mean) / estimate.standard_error, estimate.degrees, level) >= POWER

    if not suffices(MOST_IMAGES):
        return None
    if suffices(images):
        return images
    needed = _first(suffices, images, MOST_IMAGES)
    unit = int(10 ** max(len(str(needed)) - 2, 0))
    return -(-needed // unit) * unit


@functools.lru_cache(maxsize=64)
def nominal_levels(first: int, level: float) -> dict[int, float]:
    """What the looks of a study spend, as the level of an ordinary test, by the number of seeds.

    They hardly depend on the differences, so they are found once, for differences with the spread of normal
    ones.

    Args:
        first: seeds of the first look.
        level: the error that is allowed over all looks.
    """
    generator = np.random.default_rng(0)
    looks = looks_until(first, MOST_SEEDS)
    flips = SignFlips(generator.normal(size=looks[-1]), looks)
    return dict(zip(looks, flips.nominal_levels(level), strict=True))


def _chance(mean: float, spread: float, seeds: int, level: float) -> float:
    if not spread:
        return 1.0
    if seeds <= EXACT_SEEDS and level < 2.0 ** (2 - seeds):
        # Only patterns of one sign are shown: no test of means is like that.
        return float(scipy.special.ndtr(mean / spread) ** seeds)
    return _student(mean / spread * np.sqrt(seeds), seeds - 1, level)


def _student(distance: float, degrees: float, level: float) -> float:
    """The power of Student's two-sided test, of the side that counts, to a hundredth.

    Args:
        distance: of the true mean from zero, in standard errors.

    Reference: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions, 1995, section 31.6: the
    noncentral t by the normal distribution, which is a hundred times faster.
    """
    critical = scipy.special.stdtrit(degrees, 1 - level / 2)
    scaled = (distance - critical * (1 - 1 / (4 * degrees))) / np.sqrt(1 + critical**2 / (2 * degrees))
    return float(scipy.special.ndtr(scaled))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number for which a condition holds that fails at `low` and holds at `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high

"""Statistics of paired differences. Deterministic: where chance is needed, its seed is fixed."""

from collections.abc import Sequence

import numpy as np
import scipy.stats
from numpy.typing import NDArray

RESAMPLES = 9_999
"""Of the bootstrap: the Monte-Carlo error of a 95 % bound is then about 2 % of the interval's length."""

EXACT_SEEDS = 20
"""Up to here all 2^n sign patterns are enumerated, 8 MB of sums; beyond, FLIPS of them are drawn."""

FLIPS = 99_999

_TIE = 1e-9
"""Statistics closer than this share of the differences' size are equal, but for rounding: differences of
accuracies k/n carry errors of 1e-16 each, and distinct sums of them lie at least 1/n apart."""


def bca_interval(differences: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """Bias-corrected and accelerated bootstrap interval of the mean.

    The resamples are drawn with a fixed seed. Equal differences have no spread to resample: their interval is
    their common value. One difference has no interval.

    Args:
        differences: float64 [seeds].
        confidence: 0..1.

    Reference: Efron, Better Bootstrap Confidence Intervals, J. Am. Stat. Assoc. 82 (1987) 171.
    """
    if len(differences) < 2:
        return None
    scale = float(np.abs(differences).max())
    if not np.ptp(differences):
        return float(differences[0]), float(differences[0])
    # In units of the largest difference the third powers inside the acceleration cannot underflow.
    result = scipy.stats.bootstrap(
        (differences / scale,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    low, high = (0.0 if abs(bound) < _TIE else float(bound) * scale for bound in result.confidence_interval)
    return low, high


def sign_flip_p_value(differences: NDArray[np.float64]) -> float | None:
    """Two-sided p of the hypothesis that each difference is as likely as its negative.

    The statistic is the absolute mean. With up to EXACT_SEEDS differences p is the exact fraction of the sign
    patterns whose statistic is at least the observed one; with more it is (k + 1) / (m + 1) over FLIPS random
    patterns. One difference says nothing: None.

    Args:
        differences: float64 [seeds].

    Reference: Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, Stat. Appl. Genet. Mol.
    Biol. 9 (2010) 39, for the added one.
    """
    count = len(differences)
    if count < 2:
        return None
    reached = abs(differences.sum()) - _TIE * np.abs(differences).sum()
    if count <= EXACT_SEEDS:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= reached))
    generator = np.random.default_rng(0)
    sums = np.zeros(FLIPS)
    for difference in differences:
        sums += generator.choice([difference, -difference], FLIPS)
    return float((np.sum(np.abs(sums) >= reached) + 1) / (FLIPS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given, that hold for all comparisons together.

    Reference: Holm, Scand. J. Stat. 6 (1979) 65.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return adjusted.tolist()


def smallest_p_value(seeds: int, comparisons: int) -> float:
    """The smallest p that `sign_flip_p_value` can reach after Holm's correction: all signs equal.

    Beyond EXACT_SEEDS it is not less than 1 / (FLIPS + 1), which is p where no pattern that was drawn is as
    far from zero.
    """
    drawn = 1 / (FLIPS + 1) if seeds > EXACT_SEEDS else 0
    return min(comparisons * max(2.0 ** (1 - seeds), drawn), 1)

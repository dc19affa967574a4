"""Statistics of paired differences, one for each seed: is their mean zero on the images that were measured?

The test is Fisher's sign-flip test, made for several looks: an exact group-sequential test. If the arms are
alike, each difference could as well have the other sign, so all sign patterns are equally likely. The first
look calls the most extreme patterns "shown", as many as its share of the allowed error permits; each later
look does the same with the patterns that no look before has called so. So the chance of ever being wrong is
within the allowed error, however often one looks, for differences of every symmetric distribution.

Reference: Fisher, The Design of Experiments, 1935, section 21; for error that is spent look by look Lan and
DeMets, Biometrika 70 (1983) 659.

Deterministic: where chance is needed, its seed is fixed.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from optduel.components.settings import FIRST_SHARE, share_spent

EXACT_SEEDS = 17
"""Up to here all sign patterns are looked at. With more differences the signs of the further ones are drawn,
once for each pattern of the first ones. The observed pattern stays among them, so that the test is exact, too
(Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39)."""

_TIE = 1e-9
"""Statistics closer than this share of the differences' size are equal, but for rounding: differences of
accuracies k/n carry errors of 1e-16 each, and distinct sums of them lie at least 1/n apart."""

_HALVINGS = 34
"""Of a bracket, until a bound is known to a billionth of the differences' size."""

_HALVINGS_OF_P = 20
"""Until p is known to a millionth."""


class SignFlips:
    """The sign-flip test of the mean of paired differences at the last of several looks.

    Args:
        differences: float64 [seeds], two or more, in the order in which they were measured.
        looks: numbers of differences, rising; the last one is all of them.
    """

    def __init__(self, differences: NDArray[np.float64], looks: Sequence[int]) -> None:
        generator = np.random.default_rng(0)
        self._count = _patterns(len(differences))
        numbers = np.arange(self._count)
        sums, signs = np.zeros(self._count), np.zeros(self._count)
        self._differences = differences
        self._sums, self._signs = [], []
        for place, difference in enumerate(differences):
            if place == 0:
                flipped = np.zeros(self._count, np.int64)
            elif place < EXACT_SEEDS:
                flipped = numbers >> (place - 1) & 1
            else:
                flipped = generator.integers(0, 2, self._count)
                flipped[0] = 0
            sign = 1.0 - 2 * flipped
            sums += difference * sign
            signs += sign
            if place + 1 in looks:
                self._sums.append(sums.copy())
                self._signs.append(signs.copy())

    def rejects(self, mean: float, level: float) -> bool:
        """Whether the last look shows another mean than this one, at an error of `level` over all looks."""
        return self.decisions(mean, level)[-1]

    def decisions(self, mean: float, level: float) -> list[bool]:
        """`rejects` of each look."""
        return [bool(rejected[0]) for rejected in self._rejected(mean, level)]

    def level_left(self, level: float) -> float:
        """What an ordinary test may spend at the last look, so as to be wrong no more often than this one.

        Tests whose looks have more in common than their seeds, such as the same images, are wrong less often.
        """
        looks = len(self._sums)
        if looks == 1:
            return level * FIRST_SHARE
        # With few seeds no pattern may be extreme enough: then what is this look's own.
        own = level * (share_spent(looks) - share_spent(looks - 1))
        return max(self.nominal_levels(level)[-1], own)

    def nominal_levels(self, level: float) -> list[float]:
        """Of each look the share of all patterns that it calls shown: what an ordinary test would spend."""
        return [float(rejected.mean()) for rejected in self._rejected(0, level)]

    def p_value(self, level: float) -> float:
        """The smallest error over all looks at which the last one shows that the mean is not zero.

        Args:
            level: the error that the study allows. It is only tried first, so that p lies on the same side of
                it as the verdict does.
        """
        if len(self._sums) == 1:
            reached = np.abs(self._sums[0]) >= abs(self._differences.sum()) - self._tie(0, 0)
            return min(float(reached.mean()) / FIRST_SHARE, 1.0)
        inside, outside = (0.0, level) if self.rejects(0, level) else (level, 1.0)
        if outside == 1 and not self.rejects(0, 1):
            return 1.0
        for _ in range(_HALVINGS_OF_P):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if self.rejects(0, middle) else (middle, outside)
        return inside if outside == level else outside

    def interval(self, level: float) -> tuple[float, float] | None:
        """The means that the last look does not reject: it holds the true mean at all looks but for `level`.

        None where there are too few differences to reject any mean.
        """
        smallest, largest = float(self._differences.min()), float(self._differences.max())
        far = (largest - smallest) or max(abs(largest), 1.0)
        if not self.rejects(smallest - far, level):
            return None
        if smallest == largest:
            return smallest, largest
        mean = float(self._differences.mean())
        # Ties move a bound by less than that.
        zero = len(self._differences) * _TIE * max(abs(smallest), abs(largest))
        bounds = (
            self._bound(mean, edge, lambda place: self.rejects(place, level))
            for edge in (smallest - far, largest + far)
        )
        low, high = (0.0 if abs(bound) < zero else bound for bound in bounds)
        return low, high

    def _bound(self, inside: float, outside: float, is_outside: Callable[[float], bool]) -> float:
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if is_outside(middle) else (middle, outside)
        return inside

    def _rejected(self, mean: float, level: float) -> Iterator[NDArray[np.bool_]]:
        """Which patterns each look calls shown; the observed one is the first."""
        is_alive = np.ones(self._count, bool)
        spent = 0
        for look, (sums, signs) in enumerate(zip(self._sums, self._signs, strict=True), start=1):
            statistics = np.abs(sums - mean * signs)
            alive = statistics[is_alive]
            # Of patterns alike all or none; those that find no room now leave it to the next look.
            room = int(level * share_spent(look) * self._count + 1e-6) - spent
            place = len(alive) - room - 1
            most = np.partition(alive, place)[place] if place >= 0 else -1.0
            rejected: NDArray[np.bool_] = statistics > most + self._tie(mean, look - 1)
            spent += int(np.count_nonzero(rejected & is_alive))
            is_alive &= ~rejected
            yield rejected

    def _tie(self, mean: float, look: int) -> float:
        seeds = int(self._signs[look][0])
        return float(_TIE * np.abs(self._differences[:seeds] - mean).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given, that hold for all comparisons together.

    Reference: Holm, Scand. J. Stat. 6 (1979) 65.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return adjusted.tolist()


def smallest_p_value(looks: Sequence[int], comparisons: int) -> float:
    """The smallest p that the last look can reach after Holm's correction: all differences of one sign.

    With more than EXACT_SEEDS it is not less than that of a single one of the patterns.
    """
    return min(comparisons / _patterns(looks[-1]) / share_spent(len(looks)), 1)


def _patterns(seeds: int) -> int:
    """How many are looked at. The first sign stays: a pattern and its negative have one absolute mean."""
    return int(2 ** (min(seeds, EXACT_SEEDS) - 1))

"""What is drawn for the examples of an epoch: a function of (seed, epoch, position), and of nothing else.

So a worker draws the same for a position whatever the number of workers, and wherever a run goes on.
"""

import functools

import numpy as np
from numpy.typing import NDArray

FLIP, TOP, LEFT, AREA, SHAPE, BRIGHTNESS, CONTRAST, SATURATION, CUT_ROW, CUT_COLUMN = range(10)
"""What each of an example's numbers decides."""

WIDTH = 10
"""How many there are."""

_EXAMPLE, _PARTNER, _SHARE = 1, 2, 3
"""The fourth word of a seed. Data orders have three words, which NumPy fills up with zero."""


@functools.lru_cache(maxsize=4)
def epoch_draws(seed: int, epoch: int, examples: int, is_partner: bool = False) -> NDArray[np.float32]:
    """Uniform numbers, 0 to less than 1, float32 [examples, WIDTH]: a row for each position of the epoch.

    Args:
        seed: of the trial.
        epoch: epochs done before.
        examples: of the epoch.
        is_partner: those of the images that are mixed into the position's own.
    """
    generator = _generator(seed, epoch, _PARTNER if is_partner else _EXAMPLE)
    return generator.random((examples, WIDTH), np.float32)


@functools.lru_cache(maxsize=2)
def epoch_shares(seed: int, epoch: int, examples: int, alpha: float) -> NDArray[np.float32]:
    """Shares that images keep in their mixture, float32 [examples], from a Beta(alpha, alpha) distribution.

    The quantiles of uniform numbers rather than NumPy's `beta`, which may draw otherwise in another release.
    """
    import scipy.special

    uniform = _generator(seed, epoch, _SHARE).random(examples)
    return np.asarray(scipy.special.betaincinv(alpha, alpha, uniform), np.float32)


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, 0, stream])))

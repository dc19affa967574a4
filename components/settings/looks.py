"""How often a study may be looked at, so that the verdict on a study that was extended may still be believed.

Whoever looks at a verdict, adds seeds and looks again has several chances to be wrong. So the error that is
allowed, 1 - confidence, is spent in parts: the first look gets FIRST_SHARE of it, and every LOOK_EVERY seeds
there is another look, which gets LATER_SHARE of what is left, whether or not somebody looks. All of that is
settled before any number is seen, so that it does not matter why somebody went on or stopped.
"""

FIRST_SHARE = 0.64
"""Of the error, for the first look. Six seeds, all of one sign, have p = 2/2^6 = 0.031, which has to be
enough at 0.95: 0.031 / 0.64 < 0.05."""

LATER_SHARE = 0.2
"""Of what the looks before have left, for each look. Differences of 0.8 to 1.5 standard deviations are found
with the fewest seeds by about this share; larger ones leave little for looks at 60 and more seeds."""

LOOK_EVERY = 3
"""Seeds between two looks."""


def share_spent(look: int) -> float:
    """Share of the allowed error that is spent by all looks up to this one.

    Args:
        look: 1 is the first one.

    Example:
        >>> share_spent(1), round(share_spent(2), 3), share_spent(100) < 1
        (0.64, 0.712, True)
    """
    return 1 - (1 - FIRST_SHARE) * (1 - LATER_SHARE) ** (look - 1)


def looks_until(first: int, seeds: int) -> tuple[int, ...]:
    """The numbers of seeds at which a study of that many seeds has had a look.

    Example:
        >>> looks_until(6, 12)
        (6, 9, 12)
    """
    return tuple(range(first, seeds + 1, LOOK_EVERY))


def seeds_needed(confidence: float, comparisons: int) -> int:
    """The smallest number of paired seeds with which a first look can show a difference.

    A two-sided sign-flip test of n pairs cannot fall below p = 2 / 2^n; the first look has FIRST_SHARE of the
    error, and Holm's correction multiplies p by the number of comparisons.

    Args:
        confidence: a difference is shown when p < 1 - confidence.
        comparisons: arms that are compared with the first.

    Example:
        >>> seeds_needed(0.95, comparisons=1), seeds_needed(0.99, comparisons=1)
        (6, 9)
    """
    seeds = 2
    while comparisons * 2.0 ** (1 - seeds) / FIRST_SHARE >= 1 - confidence:
        seeds += 1
    return seeds

"""How often a study must repeat its trials before its verdict can be other than: not shown."""


def seeds_needed(confidence: float, comparisons: int) -> int:
    """The smallest number of paired seeds with which a difference can be shown.

    A two-sided sign-flip test of n pairs cannot fall below p = 2 / 2^n, and Holm's correction multiplies
    that by the number of comparisons.

    Args:
        confidence: a difference is shown when p < 1 - confidence.
        comparisons: arms that are compared with the first.

    Example:
        >>> seeds_needed(0.95, comparisons=1), seeds_needed(0.99, comparisons=1)
        (6, 8)
    """
    seeds = 2
    while comparisons * 2.0 ** (1 - seeds) >= 1 - confidence:
        seeds += 1
    return seeds

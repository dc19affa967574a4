"""The rate of a contestant from the rates of its epochs. Imports only the standard library."""

import statistics
from collections.abc import Sequence


def median_after_first(rates: Sequence[float]) -> float:
    """The median without the first, in which functions are traced and files are read for the first time."""
    return statistics.median(rates[1:] or rates)

"""How the comparison says its numbers: points of accuracy, nats of cross-entropy, probabilities."""

import math
from collections.abc import Sequence

from optduel.components.settings import Metric

_NAMES: dict[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "area_under_roc": "area under ROC",
    "cross_entropy": "cross-entropy",
}


def metric_in_words(metric: Metric, split: str) -> str:
    """The metric with its split, for example "test accuracy"."""
    return f"{split} {_NAMES[metric]}"


def differences_in_words(metric: Metric, differences: Sequence[float]) -> tuple[list[str], str]:
    """Differences with one common number of decimals, and their unit.

    The first difference decides: two significant digits, but no fewer decimals than the metric is usually
    given with and no more than four beyond them.

    Example:
        >>> differences_in_words("accuracy", [0.00824, 0.004, 0.0131])
        (['0.82', '0.40', '1.31'], 'points')
    """
    factor, fewest, unit = (1, 2, "nats") if metric == "cross_entropy" else (100, 1, "points")
    leading = abs(differences[0]) * factor
    digits = 1 - math.floor(math.log10(leading)) if leading else fewest
    decimals = min(max(digits, fewest), fewest + 4)
    # Adding 0.0 turns the -0.0 of a rounded negative number into 0.0.
    return [f"{round(factor * value, decimals) + 0.0:.{decimals}f}" for value in differences], unit


def signed(number: str) -> str:
    """The number with its sign, a plus included; zero has none.

    Example:
        >>> signed("0.8"), signed("-0.8"), signed("0.00")
        ('+0.8', '-0.8', '0.00')
    """
    return number if number.startswith("-") or not float(number) else f"+{number}"


def percent(fraction: float) -> str:
    """A confidence level.

    Example:
        >>> percent(0.95), percent(0.999)
        ('95 %', '99.9 %')
    """
    return f"{100 * fraction:.6g} %"


def significance_level(confidence: float) -> float:
    """Below which p shows a difference: 1 - confidence, without the rounding of that subtraction.

    Example:
        >>> significance_level(0.95)
        0.05
    """
    return round(1 - confidence, 12)


def p_in_words(p_value: float, confidence: float) -> str:
    """A p-value with two significant digits, or as many as tell on which side of the level it lies.

    Example:
        >>> p_in_words(0.03125, 0.95), p_in_words(0.0498, 0.95)
        ('0.031', '0.0498')
    """
    level = significance_level(confidence)
    texts = (f"{p_value:.{digits}g}" for digits in range(2, 17))
    return next((text for text in texts if (float(text) < level) == (p_value < level)), str(p_value))


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "seed"), count(6, "seed")
        ('1 seed', '6 seeds')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def whole(number: int) -> str:
    """A number with commas.

    Example:
        >>> whole(1400)
        '1,400'
    """
    return f"{number:,}"

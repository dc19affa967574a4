"""How the page writes numbers; None is a dash, and the page says beside it why."""

ABSENT = "–"


def percentage(fraction: float | None, decimals: int = 1) -> str:
    """A fraction in percent.

    Example:
        >>> percentage(0.98333), percentage(None)
        ('98.3 %', '–')
    """
    return ABSENT if fraction is None else f"{100 * fraction:.{decimals}f} %"


def decimal(value: float | None, decimals: int = 3) -> str:
    """A number with fixed decimals.

    Example:
        >>> decimal(0.12345), decimal(None)
        ('0.123', '–')
    """
    return ABSENT if value is None else f"{value:.{decimals}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """A number of any size, for coefficients and rates.

    Example:
        >>> significant(0.0005), significant(3e-07), significant(34013.6), significant(999.7)
        ('0.0005', '3e-07', '34,014', '1,000')
    """
    if value is None:
        return ABSENT
    # What the rounded value has, 99.9 to two digits being 100.
    return f"{value:,.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def whole(count: int) -> str:
    """A count.

    Example:
        >>> whole(16628293)
        '16,628,293'
    """
    return f"{count:,}"

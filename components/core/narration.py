"""What a stage tells the person who watches: one line at a time, on standard error."""

import sys

from optduel.components.redaction import showable

MARK = "optduel: "
"""Begins every line, so that whoever runs a stage can tell its narration from a library's chatter."""


def say(message: str) -> None:
    """Prints one line of narration at once, without credentials."""
    print(f"{MARK}{showable(message)}", file=sys.stderr, flush=True)


def seconds_in_words(seconds: float) -> str:
    """A duration for people.

    Example:
        >>> seconds_in_words(59.6), seconds_in_words(75), seconds_in_words(7300)
        ('60 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole <= 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

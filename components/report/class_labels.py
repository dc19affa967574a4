"""Class names as figures can show them: shortened in the middle where they are long, and still distinct."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from os.path import commonprefix

_CUT = "…"
_JOINING = ("Mn", "Mc", "Me", "Cf")
"""Unicode's categories of signs that belong to the letter before them, and of joiners."""


def shortened(names: Sequence[str], columns: int) -> list[str]:
    """Each name in so many columns, a wide letter taking two; different names stay different.

    The start and, as names of one kind differ there, more of the end are kept. Where this makes names equal,
    what they differ in is kept, or else a number tells them apart.

    Args:
        columns: eight or more.
    """
    short = [_middle_cut(name, columns) for name in names]
    for text in [text for text, count in Counter(short).items() if count > 1]:
        places = [place for place, found in enumerate(short) if found == text]
        group = [names[place] for place in places]
        if len(set(group)) > 1:
            start = len(commonprefix(group))
            for place in places:
                short[place] = _CUT + _end_cut(names[place][max(0, start - 2) :], columns - 1)
    for text in [text for text, count in Counter(short).items() if count > 1]:
        places = [place for place, found in enumerate(short) if found == text]
        if len({names[place] for place in places}) > 1:
            for number, place in enumerate(places, start=1):
                mark = f"{_CUT}{number}"
                short[place] = _first(text.rstrip(_CUT), columns - len(mark)) + mark
    return short


def _middle_cut(name: str, columns: int) -> str:
    if _width(name) <= columns:
        return name
    end = (columns - 1) * 3 // 5
    return _first(name, columns - 1 - end) + _CUT + _last(name, end)


def _end_cut(text: str, columns: int) -> str:
    return text if _width(text) <= columns else _first(text, columns - 1) + _CUT


def _first(text: str, columns: int) -> str:
    """The longest start that fits, of whole letters."""
    letters, used = _letters(text), 0
    taken = []
    for letter in letters:
        used += _width(letter)
        if used > columns:
            break
        taken.append(letter)
    return "".join(taken)


def _last(text: str, columns: int) -> str:
    """The longest end that fits, of whole letters."""
    letters, used = _letters(text), 0
    taken: list[str] = []
    for letter in reversed(letters):
        used += _width(letter)
        if used > columns:
            break
        taken.insert(0, letter)
    return "".join(taken)


def _letters(text: str) -> list[str]:
    """Letters with the marks that belong to them."""
    letters: list[str] = []
    for sign in text:
        if letters and unicodedata.category(sign) in _JOINING:
            letters[-1] += sign
        else:
            letters.append(sign)
    return letters


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.category(sign) in _JOINING else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )

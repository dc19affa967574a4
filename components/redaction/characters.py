"""Makes text from elsewhere harmless for a terminal and for whoever reads it there."""

import unicodedata

_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of characters that move, recolour or reorder what stands around them, or are none."""

_HARMLESS = frozenset("\n\t\u200c\u200d")
"""Line ends and tabs, and what joins letters and emoji."""


def printable(text: str) -> str:
    r"""`text` with JSON's escapes for control characters, marks that reorder letters, and half characters.

    Example:
        >>> print(printable("a\x1b[2Jb\u202ec"))
        a\u001b[2Jb\u202ec
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in _ACTING:
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))

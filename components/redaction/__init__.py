"""What may be shown: no credentials, and no characters that do something else than stand for themselves."""

from optduel.components.redaction.characters import printable
from optduel.components.redaction.credentials import RedactedLines, is_secret, redacted

__all__ = ["RedactedLines", "is_secret", "printable", "redacted", "showable"]


def showable(text: str) -> str:
    """`text` as people and logs may see it: `redacted` and `printable`."""
    return printable(redacted(text))

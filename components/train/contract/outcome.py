"""How workers ended, and which end brought the others about."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from optduel.components.core import LaunchError, OptduelError, OutOfMemoryError, PeerLostError, StoppedError

_REPEATABLE = {LaunchError.worker_exit_code, OutOfMemoryError.worker_exit_code, StoppedError.worker_exit_code}

_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(:.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class End:
    """How a worker ended other than well.

    Attributes:
        code: its exit code; negative for a signal; `LaunchError`'s where the launcher had to end it.
    """

    code: int
    error: OptduelError

    @property
    def may_be_repeated(self) -> bool:
        """Whether another attempt can succeed; a wrong request, bad data or a defect stays what it is."""
        return self.code < 0 or self.code in _REPEATABLE

    @property
    def _rank(self) -> int:
        if not self.may_be_repeated:
            return 0
        if isinstance(self.error, OutOfMemoryError):
            return 1
        # A worker that lost another one tells nothing of the cause, even when it was the first to end.
        return 3 if isinstance(self.error, PeerLostError) else 2


def root_cause(ends: Sequence[End]) -> End:
    """Of several ends, in the order of time, the one that brought the others about."""
    return min(ends, key=lambda end: end._rank)


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt of a group of workers.

    Attributes:
        cause: why it failed; None when every worker has succeeded.
        step: the last optimizer step that a worker has reported.
    """

    cause: End | None
    step: int


def last_words(printed: str) -> str:
    r"""Of what a process printed before it ended without a report, the line that says why.

    That is the last exception's; where there is none, the last line; nothing where nothing was printed.

    Example:
        >>> last_words("Traceback (most recent call last):\n  File ...\nKeyError: 1\nfarewell\n")
        'KeyError: 1'
    """
    _, begun, rest = printed.rpartition(_TRACEBACK)
    after = [line for line in rest.splitlines() if line.strip() and not line[0].isspace()] if begun else []
    # The traceback may have begun before what is left of the output.
    named = [match[0] for match in _EXCEPTION.finditer(printed)]
    return (after[:1] or named[-1:] or printed.strip().splitlines()[-1:] or [""])[0].strip()

"""What a person sees of a local run: the stages' own lines and how far the study is, no library chatter."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from optduel.components.core import MARK, seconds_in_words
from optduel.components.redaction import RedactedLines, showable

_TRIAL_DONE = f"{MARK}evaluate "
"""A trial's last line begins like this."""


class Narrator:
    """A text stream for `contextlib.redirect_stdout`: keeps every line in a log and shows the marked ones.

    Credentials, which libraries may print, reach neither.

    The run does not depend on who listens: where the screen is gone (a closed pipe) lines are only logged,
    and where the log's disk is full this is said, once, and the rest of the log is lost.

    Args:
        log: receives everything; closed by `close`.
        screen: receives the stages' narration.
        trials: how many trials the study has, for the remaining time.
    """

    encoding = "utf-8"

    def __init__(self, log: TextIO, screen: TextIO, trials: int) -> None:
        self._log: TextIO | None = log
        self._screen: TextIO | None = screen
        self._trials = trials
        self._done = 0
        self._started: float | None = None
        self._pending: dict[int, str] = {}  # by thread: print() writes a line in two pieces
        self._lines: dict[int, RedactedLines] = {}  # by thread, too
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Takes text; lines may come in pieces, and from several threads."""
        with self._lock:
            thread = threading.get_ident()
            *lines, rest = (self._pending.pop(thread, "") + text).split("\n")
            if rest:
                self._pending[thread] = rest
            for line in lines:
                shown = self._lines.setdefault(thread, RedactedLines()).line(line)
                self._keep(shown + "\n")
                self._show(shown)
        return len(text)

    def flush(self) -> None:
        """Does nothing: whole lines are passed on at once, and half a credential is not known as one."""

    def close(self) -> None:
        """Completes the log."""
        with self._lock:
            for thread, rest in self._pending.items():
                self._keep(self._lines.get(thread, RedactedLines()).line(rest))
            self._pending.clear()
            with self._telling_of_losses():
                if self._log:
                    self._log.close()
            self._log = None

    def isatty(self) -> bool:
        """No terminal: libraries shall not colour what goes into the log."""
        return False

    def _show(self, line: str) -> None:
        _, mark, message = line.partition(MARK)
        if not mark:
            return
        # Settings that are searched are no trials of the study.
        is_trial = message.startswith("train ") and ", setting " not in message
        if is_trial and self._started is None:
            self._started = time.monotonic()
        if (mark + message).startswith(_TRIAL_DONE):
            message += self._study_progress()
        self._say(message)

    def _say(self, message: str) -> None:
        if self._screen is None:
            return
        try:
            # Not print(): KFP replaces it by one that also writes indentation to standard output: to us.
            self._screen.write(showable(message) + "\n")
            self._screen.flush()
        except OSError:
            self._screen = None

    def _keep(self, text: str) -> None:
        if self._log:
            with self._telling_of_losses():
                self._log.write(text)
                self._log.flush()

    @contextlib.contextmanager
    def _telling_of_losses(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log, self._log = self._log, None
            if log:
                self._say(f"{log.name}: {error.strerror}; what the run prints from here on is lost")
                with contextlib.suppress(OSError):  # told already: it would write the same lines again
                    log.close()

    def _study_progress(self) -> str:
        self._done += 1
        left = self._trials - self._done
        if not left or self._started is None:
            return f"  [{self._done}/{self._trials} trials]"
        # Two trials of an arm run at a time, so the mean pace is the honest forecast.
        seconds = (time.monotonic() - self._started) / self._done * left
        return f"  [{self._done}/{self._trials} trials, about {seconds_in_words(seconds)} left]"

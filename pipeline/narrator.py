"""What a person sees of a local run: the stages' own lines and how far the study is, no library chatter."""

import threading
import time
from typing import TextIO

from components.core.narration import MARK, seconds_in_words

_TRIAL_DONE = f"{MARK}evaluate "
"""A trial's last line begins like this."""


class Narrator:
    """A text stream for `contextlib.redirect_stdout`: keeps every line in a log and shows the marked ones.

    Args:
        log: receives everything.
        screen: receives the stages' narration.
        trials: how many trials the study has, for the remaining time.
    """

    encoding = "utf-8"

    def __init__(self, log: TextIO, screen: TextIO, trials: int) -> None:
        self._log = log
        self._screen = screen
        self._trials = trials
        self._done = 0
        self._started: float | None = None
        self._pending = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Takes text; lines may come in pieces, and from several threads."""
        with self._lock:
            self._log.write(text)
            *lines, self._pending = (self._pending + text).split("\n")
            for line in lines:
                self._show(line)
        return len(text)

    def flush(self) -> None:
        """Passes on what is buffered."""
        self._log.flush()
        self._screen.flush()

    def isatty(self) -> bool:
        """No terminal: libraries shall not colour what goes into the log."""
        return False

    def _show(self, line: str) -> None:
        _, mark, message = line.partition(MARK)
        if not mark:
            return
        if message.startswith("train ") and self._started is None:
            self._started = time.monotonic()
        if (mark + message).startswith(_TRIAL_DONE):
            message += self._study_progress()
        # Not print(): KFP replaces it by one that also writes indentation to standard output, which is us.
        self._screen.write(message + "\n")
        self._screen.flush()

    def _study_progress(self) -> str:
        self._done += 1
        left = self._trials - self._done
        if not left or self._started is None:
            return f"  [{self._done}/{self._trials} trials]"
        # Two trials of an arm run at a time, so the mean pace is the honest forecast.
        seconds = (time.monotonic() - self._started) / self._done * left
        return f"  [{self._done}/{self._trials} trials, about {seconds_in_words(seconds)} left]"

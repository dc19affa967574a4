"""Shows how far long work is: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from optduel.components.core import say, seconds_in_words

LINE_INTERVAL_SECONDS = 5.0


class ProgressBar:
    """Counts images from several threads and narrates on standard error.

    Args:
        activity: what is being done, for example "writing".
        total: images in all.
    """

    def __init__(self, activity: str, total: int) -> None:
        self._activity = activity
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._started = self._narrated = time.monotonic()
        self._bar: tqdm[None] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total, desc=f"prepare: {activity}", unit=" images", file=sys.stderr, leave=False
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, images: int = 1) -> None:
        """Notes that `images` more are done."""
        with self._lock:
            self._done += images
            if self._bar is not None:
                self._bar.update(images)
                return
            now = time.monotonic()
            if now - self._narrated >= LINE_INTERVAL_SECONDS:
                self._narrated = now
                say(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        left = (self._total - self._done) / rate
        count = f"{self._done}/{self._total} images"
        return f"prepare: {self._activity} {count}, {rate:.0f}/s, {seconds_in_words(left)} left"

"""Tries an operation again while its failure may pass, in bounded time."""

import collections
import itertools
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from optduel.components.core import DamagedError, RefusedError, SetupError, StorageError
from optduel.components.storage.failures import (
    DamagedFailure,
    Failure,
    HangingFailure,
    PermanentFailure,
    TransientFailure,
)

SECONDS_VARIABLE = "OPTDUEL_STORAGE_SECONDS"
"""Names the time that one operation may take, beyond moving its bytes at `SLOWEST_BYTES_PER_SECOND`."""

DEFAULT_SECONDS = 120.0

SLOWEST_BYTES_PER_SECOND = 1 << 20
"""A transfer slower than this counts as hanging."""

_ATTEMPTS_AT_LEAST = 3
"""Attempts for which the time suffices, however long each of them hangs."""

Result = TypeVar("Result")


def patience() -> float:
    """Seconds that one operation may take, from the environment.

    Raises:
        SetupError: the variable is no positive number.
    """
    text = os.environ.get(SECONDS_VARIABLE, str(DEFAULT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 86_400:
        raise SetupError(f"{SECONDS_VARIABLE} = {text!r}: must be a number of seconds between 0 and 86400")
    return seconds


def timeouts() -> tuple[float, float]:
    """Seconds to wait for a connection, and for the next bytes of an answer.

    A client that notices its deadline only between two reads overshoots by one read at most, a fifth.
    """
    return min(5.0, patience() / 5), patience() / 5


class AbandonedError(Exception):
    """Nobody waits for this attempt any more."""


class Attempt:
    """One try of an operation, which ends at a deadline even where its client would wait for ever."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._abandoned = False
        self._is_over = False
        self.allowance = 0.0

    def allow(self, size: int) -> None:
        """Moves the deadline by the time that a slow transfer of `size` bytes takes."""
        seconds = size / SLOWEST_BYTES_PER_SECOND
        self.allowance += seconds
        self._deadline += seconds

    def check(self) -> None:
        """Ends the work of an attempt that nobody waits for.

        Raises:
            AbandonedError: the deadline has passed, or the caller is gone.
        """
        if self._abandoned or time.monotonic() > self._deadline:
            self._is_over = True
            raise AbandonedError

    def run(self, operation: Callable[["Attempt"], Result], stopped: threading.Event | None) -> Result:
        """Runs the operation in a thread of its own, and leaves it behind at the deadline.

        The limits of the clients bound the time between two bytes only, so a server that sends one a second
        holds a read for hours. No client lets another thread break off its read.
        """
        outcome: _Outcome[Result] = _Outcome()
        begun = time.monotonic()

        def work() -> None:
            with outcome:
                outcome.result = operation(self)

        _THREADS.start(work)
        try:
            while not outcome.ended.wait(min(0.1, max(0.0, self._deadline - time.monotonic()))):
                if stopped is not None and stopped.is_set():
                    raise AbandonedError
                if time.monotonic() >= self._deadline:
                    raise HangingFailure(f"no complete answer within {time.monotonic() - begun:.1f} s")
        finally:
            self._abandoned = True
        return outcome.take(self._is_over)


class _Threads:
    """Daemon threads that are used again: a fresh one spends a millisecond on memory of its own."""

    def __init__(self) -> None:
        self._idle: collections.deque[queue.SimpleQueue[Callable[[], None]]] = collections.deque()
        # A fork has none of them.
        os.register_at_fork(after_in_child=self._idle.clear)

    def start(self, work: Callable[[], None]) -> None:
        """Runs `work`, which must not raise, in a thread that nobody waits for."""
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="storage", daemon=True).start()
        inbox.put(work)

    def _serve(self, inbox: "queue.SimpleQueue[Callable[[], None]]") -> None:
        while True:
            inbox.get()()
            self._idle.append(inbox)


_THREADS = _Threads()


class _Outcome(Generic[Result]):
    """What a thread came to: a result, or whatever it raised."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.result: Result
        self._error: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._error = error
        self.ended.set()
        return True

    def take(self, is_over: bool) -> Result:
        """The result; `is_over` when the work was ended by `check`, whatever a client made of that."""
        if is_over and self._error is not None:
            raise HangingFailure("no complete answer in time")
        if self._error is not None:
            raise self._error
        return self.result


def persist(
    uri: str,
    operation: Callable[[Attempt], Result],
    *,
    size: int = 0,
    stopped: threading.Event | None = None,
) -> Result:
    """The result of an operation, tried again after transient failures with exponential back-off.

    The back-off has full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        uri: the place, for errors.
        operation: one attempt; raises Failure.
        size: bytes that it sends; those it receives count as they arrive.
        stopped: when set, nobody wants the result any more.

    Raises:
        RefusedError: the failure is permanent.
        StorageError: it did not pass in time.
        DamagedError: what arrived was damaged twice.
        AbandonedError: `stopped` was set.
    """
    seconds = patience()
    begun = time.monotonic()
    allowance = size / SLOWEST_BYTES_PER_SECOND
    damaged = False
    cause: TransientFailure | None = None
    for number in itertools.count(1):
        end = begun + seconds + allowance
        attempt = Attempt(min(end, time.monotonic() + seconds / _ATTEMPTS_AT_LEAST + allowance))
        try:
            return attempt.run(operation, stopped)
        except DamagedFailure as failure:
            if damaged:  # once is the network; twice is the object
                raise DamagedError(_given_up(uri, failure, number, begun)) from None
            damaged = True
        except TransientFailure as failure:
            delay = random.uniform(0, min(seconds / 4, seconds / DEFAULT_SECONDS * 2 ** (number - 1)))
            allowance = max(allowance, attempt.allowance)
            # The last attempt may hang only because little time was left: what was said before tells more.
            cause = failure if cause is None or not isinstance(failure, HangingFailure) else cause
            if time.monotonic() + delay >= begun + seconds + allowance:
                raise StorageError(_given_up(uri, cause, number, begun)) from None
            if stopped is None:
                time.sleep(delay)
            elif stopped.wait(delay):
                raise AbandonedError from None
        except Failure as failure:
            kind = RefusedError if isinstance(failure, PermanentFailure) else StorageError
            raise kind(f"{uri}: {failure.cause}; {failure.remedy}") from None
    raise AssertionError("unreachable")


def _given_up(uri: str, failure: Failure, attempts: int, begun: float) -> str:
    elapsed = time.monotonic() - begun
    tried = f"{attempts} attempts in {elapsed:.1f} s" if attempts > 1 else f"1 attempt in {elapsed:.1f} s"
    return f"{uri}: {failure.cause} ({tried}); {failure.remedy}"

"""Stops what runs in several threads when a signal asks for it."""

import contextlib
import queue
import signal
import threading
from collections.abc import Iterator
from typing import Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal.

    Attributes:
        exit_code: 128 and the signal's number, as shells tell it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Stoppable(Protocol):
    """What a signal stops; its methods are called from another thread than the body's."""

    def stop(self) -> None:
        """Asks all to end, and begins nothing from now on."""

    def kill(self) -> None:
        """Ends all at once, and begins nothing from now on."""


@contextlib.contextmanager
def stopped_by_signals(tasks: Stoppable) -> Iterator[None]:
    """Stops the tasks when SIGINT, SIGTERM or SIGHUP arrives, and kills them when another one does.

    To be entered in the main thread. What the process was told to ignore (nohup) stays ignored.

    Raises:
        Interrupted: at the end of the body, when every task has ended.
    """
    # Reentrant, unlike locks: a handler may interrupt the very code that holds one.
    arrived: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    received: list[int] = []

    def heed(number: int, _frame: object) -> None:
        arrived.put(number)

    def obey() -> None:
        while (number := arrived.get()) is not None:
            received.append(number)
            if len(received) == 1:
                tasks.stop()
            else:
                tasks.kill()

    watcher = threading.Thread(target=obey, daemon=True)
    watcher.start()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, heed)
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])
        arrived.put(None)
        watcher.join()
        if received:
            raise Interrupted(received[0])

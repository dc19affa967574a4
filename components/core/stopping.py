"""Requests to stop: SIGTERM from a cluster, SIGINT from a keyboard."""

import contextlib
import signal
from collections.abc import Iterator


class StopRequest:
    """Whether this process was asked to stop; asking again changes nothing."""

    # A plain attribute: a handler that took a lock could interrupt the very code that holds it.
    is_made = False


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns SIGTERM and SIGINT into a request that the body polls; to be entered in the main thread."""
    request = StopRequest()

    def handle(_number: int, _frame: object) -> None:
        request.is_made = True

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

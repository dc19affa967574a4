"""Attempts that run out of time tell so, whatever a client makes of it: no earlier cause is lost."""

import time

import pytest

from optduel.components.storage import retries
from optduel.components.storage.failures import HangingFailure, TransientFailure
from optduel.components.storage.retries import AbandonedError, Attempt


def test_a_client_that_wraps_the_end_of_an_attempt_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As botocore does with what a body's reader raises."""
    late = [0.0]
    clock = time.monotonic
    monkeypatch.setattr(retries.time, "monotonic", lambda: clock() + late[0])

    def send(attempt: Attempt) -> None:
        late[0] = 100.0
        try:
            attempt.check()
        except AbandonedError as error:
            raise TransientFailure("HTTPClientError: An HTTP Client raised an unhandled exception") from error

    with pytest.raises(HangingFailure, match="no complete answer"):
        Attempt(clock() + 10).run(send, None)

"""Sorts what goes wrong between here and a store: what may pass, what will not, and what to do about it."""

import http
from collections.abc import Mapping

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP answers that may differ next time: time-outs, throttling and trouble of the server's own."""


class Failure(Exception):
    """One attempt failed.

    Attributes:
        cause: what happened.
        remedy: what the user can do.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class TransientFailure(Failure):
    """It may succeed when tried again."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, "check the network and the store's state, then try again")


class HangingFailure(TransientFailure):
    """No complete answer came in time."""


class DamagedFailure(TransientFailure):
    """The bytes that arrived are not the bytes that were sent."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.remedy = "write the object again, or check the network if others are damaged too"


class PermanentFailure(Failure):
    """It fails every time."""


class AbsentFailure(PermanentFailure):
    """There is no such object."""


class ConditionFailure(Failure):
    """The object is not what the write was conditional on."""

    def __init__(self) -> None:
        super().__init__("was changed by another writer", "read it and decide again")


def failure_of_status(status: int, message: str, remedies: Mapping[int, str]) -> Failure:
    """What an HTTP error means.

    Args:
        message: the server's own words.
        remedies: what to do about each status, in the words of this store.
    """
    cause = f"HTTP {status} {_phrase(status)}"
    if message and message != _phrase(status):
        cause += f": {message}"
    if status in TRANSIENT_STATUSES:
        return TransientFailure(cause)
    if status == 412:
        return ConditionFailure()
    remedy = remedies.get(status, "trying again will not help: check the place and the store's settings")
    return (AbsentFailure if status == 404 else PermanentFailure)(cause, remedy)


def failure_of_connection(error: Exception) -> Failure:
    """What a failed or interrupted connection means."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return PermanentFailure(text, "the store's certificate is not trusted: install its authority's")
    return TransientFailure(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"

"""What the doctor finds: a check's name, how it went, and what to do about it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """A check's outcome.

    Attributes:
        name: what was looked at.
        status: "skipped" where it could not be looked at from here, or nothing asks for it.
        detail: what was found; for a failure with its remedy.
    """

    name: str
    status: Literal["ok", "failed", "skipped"]
    detail: str


def ok(name: str, detail: str) -> Check:
    """All is well."""
    return Check(name, "ok", detail)


def failed(name: str, detail: object) -> Check:
    """A run would fail; `detail` is an error or a message, with the remedy."""
    return Check(name, "failed", str(detail))


def skipped(name: str, detail: str) -> Check:
    """Nothing can be said."""
    return Check(name, "skipped", detail)

"""What stores answer when they refuse."""

from tests.faults.proxy import Answer

EXPIRED = {
    "gs": Answer(401, {}, b"{}"),
    "s3": Answer(
        400,
        {},
        b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>It has expired</Message></Error>",
    ),
}
"""To expired credentials, by the kind of store."""


def status(code: int, body: bytes = b"") -> Answer:
    """An answer with nothing but its code, and what it says."""
    return Answer(code, {}, body)

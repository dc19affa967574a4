"""Tells an API server that has just started from one that says no."""

import time


class Grants:
    """What the server has allowed so far.

    A server that has just started answers 403 to everybody, or 401, until it has read the cluster's Roles and
    accounts. So a refusal of what was allowed before counts only when it lasts.

    Args:
        seconds: that such a refusal may last.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._refused_since: dict[str, float | None] = {}

    def allow(self, what: str) -> None:
        """Takes note that a kind of requests is allowed."""
        self._refused_since[what] = None

    def may_return(self, what: str) -> bool:
        """Takes note that a kind of requests is refused; whether it may soon be allowed again."""
        if what not in self._refused_since:
            return False
        since = self._refused_since[what] or time.monotonic()
        self._refused_since[what] = since
        return time.monotonic() - since < self._seconds

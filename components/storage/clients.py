"""Keeps one client for each server and process."""

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any

_clients: dict[Hashable, Any] = {}
_lock = threading.Lock()


def client_of(settings: Hashable, create: Callable[[], Any]) -> Any:
    """The client with these settings; the first caller creates it, while the others wait."""
    with _lock:
        if settings not in _clients:
            _clients[settings] = create()
        return _clients[settings]


def _forget() -> None:
    """A forked process must not use its parent's connections, nor wait for a lock of its parent's threads."""
    global _clients, _lock
    _clients = {}
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)

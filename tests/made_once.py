"""What is expensive to make and does not change: made by one of the run's test processes, for all of them."""

import fcntl
import os
from collections.abc import Callable

import pytest


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[], str]) -> str:
    """What `make` returns; only the first of the run's processes calls it, and the others wait.

    Args:
        tmp_path_factory: of this process.
        name: what it is called by all of them.
        make: makes it; what it returns names or holds it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes
    made = folder / f"{name}.made"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(make())
    return made.read_text()

"""Interpreters that come from the fork server, for tests that do not ask how a process starts.

They run the same code, in a process of its own; only the import of TensorFlow is shared. Tests of kills, of
environments and of starting itself use `sys.executable` as it is.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forking import client, server
from tests.made_once import made_once


@pytest.fixture(scope="session")
def forking_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that forks where TensorFlow would be imported; its children do, too.

    All test processes of a run share one server.
    """
    if sys.platform != "linux":
        return sys.executable
    return made_once(tmp_path_factory, "forking", lambda: serving_python(tmp_path_factory.mktemp("forking")))


def serving_python(environment: Path) -> str:
    """Makes that interpreter in an empty folder, and starts its server, which ends with the tests' run."""
    folder = environment / "bin"
    folder.mkdir()
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), environment)
    (environment / "lib").symlink_to(Path(sys.prefix, "lib"))
    (folder / "interpreter").symlink_to(Path(sys.executable).resolve())
    python = folder / "python"
    python.write_text(f"#!{sys.executable} -IS\n{Path(client.__file__).read_text()}")
    python.chmod(0o755)
    # The process that gives out the tests outlives those that run them, of which this may be one.
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    command = [sys.executable, "-P", server.__file__, str(folder / "socket"), str(run)]
    told = {name: value for name, value in os.environ.items() if not name.startswith("OPTDUEL_")}
    log = environment / "server.log"
    reading, writing = os.pipe()
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT, 0o600),
    ]
    os.posix_spawn(sys.executable, command, told, file_actions=streams)
    os.close(writing)
    with os.fdopen(reading) as answers:
        if answers.readline() != "ready\n":
            raise RuntimeError(f"the fork server did not start:\n{log.read_text()[-2000:]}")
    return str(python)


@contextlib.contextmanager
def started_by(python: str) -> Iterator[None]:
    """What the code under test starts with `sys.executable` is started by another interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        yield


@pytest.fixture
def quick_starts(forking_python: str) -> Iterator[None]:
    """What the code under test starts comes from the fork server."""
    with started_by(forking_python):
        yield

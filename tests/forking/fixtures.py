"""Interpreters that come from the fork server, for tests that do not ask how a process starts.

They run the same code, in a process of its own; only the import of TensorFlow is shared. Tests of kills, of
environments and of starting itself use `sys.executable` as it is.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forking import client, server


@pytest.fixture(scope="session")
def forking_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An interpreter that forks where TensorFlow would be imported; its children do, too."""
    if sys.platform != "linux":
        yield sys.executable
        return
    environment = tmp_path_factory.mktemp("forking")
    folder = environment / "bin"
    folder.mkdir()
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), environment)
    (environment / "lib").symlink_to(Path(sys.prefix, "lib"))
    (folder / "interpreter").symlink_to(Path(sys.executable).resolve())
    python = folder / "python"
    python.write_text(f"#!{sys.executable} -IS\n{Path(client.__file__).read_text()}")
    python.chmod(0o755)
    command = [sys.executable, "-P", server.__file__, str(folder / "socket")]
    told = {name: value for name, value in os.environ.items() if not name.startswith("OPTDUEL_")}
    with (
        (environment / "server.log").open("w+") as log,
        subprocess.Popen(
            command, env=told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the fork server did not start:\n{Path(log.name).read_text()[-2000:]}")
            yield str(python)
        finally:
            process.stdin.close()


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

"""Real processes that stand for the parts of a worker: small scripts in place of the interpreter."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SCRIPT = """#!{python}
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from optduel.components.core.errors import *
from optduel.components.train.contract.control import Control
folder = Path({folder!r})
index = int(os.environ.get("OPTDUEL_WORKER_INDEX", "0"))
control = Control(Path(os.environ["OPTDUEL_PROGRESS"]))
def end(error, **details):
    write_termination("train", error, details)
    sys.exit(error.worker_exit_code)
def sleep_with_interpreter_locked():
    ctypes.PyDLL(None).sleep(600)
{code}
"""


def script(path: Path, code: str) -> str:
    """Makes an executable that runs `code`; it may use what SCRIPT defines, and leave files in its folder."""
    path.write_text(SCRIPT.format(python=sys.executable, folder=str(path.parent), code=code))
    path.chmod(0o755)
    return str(path)


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Polls a condition; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def is_running(process: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def ending(process: "subprocess.Popen[str]") -> "Iterator[subprocess.Popen[str]]":
    """Leaves nothing behind when a test fails."""
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # Not communicate(): a process that outlived this one, which is what a test may find, holds the pipe.
        if process.stderr:
            process.stderr.close()

"""Starts a server on loopback, waits until it answers, and ends it."""

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 60


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]


def answers(url: str) -> bool:
    """Whether something speaks HTTP there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def started(command: list[str], url: str, log: Path, seconds: float = START_SECONDS) -> Iterator[str]:
    """Runs a server while the body runs; it has to answer within some seconds."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)
    with process:
        try:
            deadline = time.monotonic() + seconds
            while not answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    last_words = log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{command[0]} did not start:\n{last_words}")
                time.sleep(0.05)
            yield url
        finally:
            process.kill()

"""The container engine, and the end of a run's containers there: they are not our children."""

import contextlib
import http
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import docker
from docker.errors import APIError, DockerException
from docker.models.containers import Container

from optduel.components.core import LaunchError

LABEL = "optduel.run"
"""Of a container: its run's name."""

_LATE_SECONDS = 2.0
"""After which the guard looks again: the engine may have been asked for one more container just before."""

_DONE = b"done"


@contextlib.contextmanager
def open_engine() -> Iterator[docker.DockerClient]:
    """A client of the engine that docker's client reaches. Raises LaunchError where none answers."""
    try:
        engine = docker.from_env()
    except DockerException as error:
        raise LaunchError(
            "--image: no container engine answers; start docker, or `podman system service` with DOCKER_HOST "
            f"set to its socket ({error})"
        ) from error
    with contextlib.closing(engine):
        yield engine


@contextlib.contextmanager
def removed_at_the_end(engine: docker.DockerClient, run: str) -> Iterator[None]:
    """Removes what a run has left when the body ends, or this process does, however it is killed.

    For the latter there is a process that outlives this one: it waits for the end of a pipe that only this
    one holds.
    """
    command = [sys.executable, "-P", "-m", "optduel.pipeline.local.container_engine", run]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as guard:
        try:
            yield
        finally:
            remove_all(engine, run)
            with contextlib.suppress(BrokenPipeError):  # somebody has ended it
                guard.communicate(_DONE)


def remove_all(engine: docker.DockerClient, run: str) -> None:
    """Removes every container of a run."""
    for container in engine.containers.list(all=True, filters={"label": f"{LABEL}={run}"}):
        remove(container)


def remove(container: Container) -> None:
    """Removes a container at once; another thread may have removed it, or be at it."""
    try:
        container.remove(force=True)
    except APIError as error:
        if error.status_code not in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT):
            raise


def _guard(run: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == _DONE:
        return
    with open_engine() as engine:
        remove_all(engine, run)
        time.sleep(_LATE_SECONDS)
        remove_all(engine, run)


if __name__ == "__main__":
    _guard(sys.argv[1])

"""Runs the tasks of a local run in containers, by KFP's own runner.

The engine is the one that docker's client reaches: podman's socket too, where DOCKER_HOST names it.
"""

import codecs
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import docker
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.types import Mount
from kfp.local import DockerRunner, docker_task_handler

from components.core.deployment import USER
from components.core.errors import TERMINATION_LOG_VARIABLE, ExperimentError, LaunchError
from components.core.experiment import DigitsSource, FolderSource, Source, TfdsSource
from components.core.storage import is_remote, local_path

_LABEL = "optduel.run"


def check_image(reference: str) -> None:
    """Finds out whether the engine has an image.

    Raises:
        LaunchError: no engine answers.
        ExperimentError: it has no such image.
    """
    with _engine() as engine:
        try:
            engine.images.get(reference)
        except ImageNotFound as error:
            raise ExperimentError(
                f"--image = {reference}: the container engine has no such image; pull it, or build it with "
                "`make images`"
            ) from error


@contextlib.contextmanager
def docker_runner(run: str, root: Path, source: Source, termination: Path) -> Iterator[DockerRunner]:
    """A runner whose containers have a read-only root, no capabilities and no way to gain privileges.

    They run as the caller; where this is root, as user 65532, who then gets the folders below `root`. They
    reach a network only where a source is not on this machine. An interrupt removes them, and so does the
    end of the context.

    Args:
        run: the run's name.
        root: of records and runs; the same folder in the containers.
        source: of the images; its folders are readable at the paths that it names.
        termination: the file below `root` in which a failed task says why.

    Raises:
        LaunchError: no engine answers, or it cannot run a container.
    """
    user, group = os.getuid(), os.getgid()
    if user == 0:
        user = group = USER
        for folder, _, _ in os.walk(root):
            os.chown(folder, user, group)
    needs_network, readable = _needs(source)
    mounts = [Mount(str(root), str(root), type="bind")]
    # Tasks run in /, which is where relative paths begin.
    mounts += [
        Mount(os.path.normpath(Path("/") / path), str(path.resolve()), type="bind", read_only=True)
        for path in readable
    ]
    runner = DockerRunner(
        user=f"{user}:{group}",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "mode=1777"},
        mounts=mounts,
        environment={TERMINATION_LOG_VARIABLE: str(termination)},
        labels={_LABEL: run},
        **({} if needs_network else {"network_mode": "none"}),
    )
    with _engine() as engine, _removed(engine, run), _own_way_to_run():
        try:
            yield runner
        except DockerException as error:
            raise LaunchError(f"--image: the container engine cannot run a task: {error}") from error


def _needs(source: Source) -> tuple[bool, Sequence[Path]]:
    """Whether a source is reached over a network, and which folders and files of this machine it reads."""
    told: str | None
    match source:
        case DigitsSource():
            return False, []
        case FolderSource(path=told):
            pass
        case TfdsSource(archive=archive, data_dir=prepared):
            told = archive or prepared
    if told is None or is_remote(told):
        return True, []
    return False, [local_path(told)]


@contextlib.contextmanager
def _engine() -> Iterator[docker.DockerClient]:
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
def _removed(engine: docker.DockerClient, run: str) -> Iterator[None]:
    """Removes a run's containers, which are not our children and outlive us otherwise."""

    def remove() -> None:
        for container in engine.containers.list(all=True, filters={"label": f"{_LABEL}={run}"}):
            with contextlib.suppress(NotFound):
                container.remove(force=True)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        # Before anything else: KFP waits for its tasks when an exception passes.
        remove()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        remove()


@contextlib.contextmanager
def _own_way_to_run() -> Iterator[None]:
    """Has KFP run containers by `_run`.

    KFP lets the engine remove a container when it ends. On podman its last lines and its exit code then go
    with it, and KFP takes a missing code for success.
    """
    before = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = _run
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = before


def _run(client: docker.DockerClient, image: str, command: Sequence[str], **options: Any) -> int:
    """Runs a container and passes on what it says; returns its exit code."""
    container = client.containers.run(image, command, detach=True, **options)
    try:
        for text in codecs.iterdecode(container.logs(stream=True), "utf-8", errors="replace"):
            sys.stdout.write(text)
        return int(container.wait()["StatusCode"])
    finally:
        with contextlib.suppress(NotFound):  # an interrupt has removed it
            container.remove(force=True)

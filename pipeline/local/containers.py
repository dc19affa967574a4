"""Runs the tasks of a local run in containers, by KFP's own runner.

The engine is the one that docker's client reaches: podman's socket too, where DOCKER_HOST names it.
"""

import codecs
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound
from docker.types import Mount
from kfp.local import DockerRunner, docker_task_handler

from optduel.components.core import TERMINATION_LOG_VARIABLE, ExperimentError, LaunchError
from optduel.components.settings import USER, Experiment, PretrainedModel
from optduel.components.storage import is_remote, local_path, resolved
from optduel.pipeline.local.container_engine import LABEL, open_engine, remove, removed_at_the_end
from optduel.pipeline.local.tasks import LocalTasks, pass_on, replaced

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
"""Names the folder of records, below a folder with the data set's name."""


def check_image(reference: str) -> None:
    """Finds out whether the engine has an image.

    Raises:
        LaunchError: no engine answers.
        ExperimentError: it has no such image.
    """
    with open_engine() as engine:
        try:
            engine.images.get(reference)
        except ImageNotFound as error:
            raise ExperimentError(
                f"--image = {reference}: the container engine has no such image; pull it, or build it with "
                "`make images`"
            ) from error


@contextlib.contextmanager
def docker_runner(
    run: str, root: Path, experiment: Experiment, termination: Path, tasks: LocalTasks
) -> Iterator[DockerRunner]:
    """A runner whose containers have a read-only root, no capabilities and no way to gain privileges.

    They run as the caller; where this is root, as user 65532, see `hand_over`. They reach a network only
    where something that they read is not on this machine. The end of the context removes them.

    Args:
        run: the run's name.
        root: of records and runs; the same folder in the containers.
        experiment: the places that it reads are readable at the paths that it names.
        termination: the file below `root` in which a failed task says why.
        tasks: of the run.

    Raises:
        LaunchError: no engine answers, or it cannot run a container.
    """
    user, group = os.getuid(), os.getgid()
    if user == 0:
        user = group = USER
        hand_over(root, run)
    source, model = experiment.data.source, experiment.model
    start = (model.start,) if isinstance(model, PretrainedModel) else ()
    places = experiment.places.values()
    needs_network = source.is_downloaded or any(map(is_remote, places))
    readable = [local_path(place) for place in (*source.readable, *start) if not is_remote(place)]
    if Path() in readable:
        raise ExperimentError(
            "data.source.path: lies in the current folder, which no container can have; give an absolute path"
        )
    mounts = [Mount(str(root), str(root), type="bind")]
    # Tasks run in /, which is where relative paths begin.
    mounts += [
        Mount(os.path.normpath(Path("/") / path), str(resolved(path)), type="bind", read_only=True)
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
        labels={LABEL: run},
        **({} if needs_network else {"network_mode": "none"}),
    )

    def execute(client: docker.DockerClient, image: str, command: Sequence[str], **options: Any) -> int:
        return tasks.run(lambda: _Container(client, image, command, options))

    execution = replaced(docker_task_handler, "run_docker_container", execute)
    with open_engine() as engine, removed_at_the_end(engine, run), execution:
        try:
            yield runner
        except DockerException as error:
            raise LaunchError(f"--image: the container engine cannot run a task: {error}") from error


def hand_over(root: Path, run: str) -> None:
    """Gives the images' user the folders below a root that tasks write to; to be called by root.

    These are the index, those of trials, settings and champions, the run's, and the records'. What else lies
    there is not ours, as in `--root /srv`. What belongs to another user than root stays as it is, and links
    are not followed.
    """
    datasets = root / "datasets"
    shared = [datasets, *(root / name for name in ("champions", "index", "trials", "tuned"))]
    for folder in shared:
        folder.mkdir(exist_ok=True)
    names = [name for name in datasets.iterdir() if name.is_dir() and not name.is_symlink()]
    prepared = [folder for name in names for folder in name.iterdir() if _FINGERPRINT.fullmatch(folder.name)]
    holders = {folder.parent for folder in prepared}
    trees = [root / "runs" / run, root / "champions", *prepared]
    inner = [Path(folder) for tree in trees for folder, _, _ in os.walk(tree)]
    for folder in (*shared, *holders, *inner):
        if not folder.is_symlink() and folder.stat().st_uid == 0:
            os.chown(folder, USER, USER, follow_symlinks=False)


class _Container:
    """Runs a task as KFP's own function does, but for two things.

    KFP lets the engine remove a container when it ends. On podman its last lines and its exit code then go
    with it, and KFP takes a missing code for success.
    """

    last_words = ""

    def __init__(
        self, client: docker.DockerClient, image: str, command: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        self._container = client.containers.run(image, command, detach=True, **options)

    def wait(self) -> int:
        try:
            texts = codecs.iterdecode(self._container.logs(stream=True), "utf-8", errors="replace")
            self.last_words = pass_on(_lines(texts))
            return int(self._container.wait()["StatusCode"])
        finally:
            remove(self._container)

    def stop(self) -> None:
        remove(self._container)

    def kill(self) -> None:
        remove(self._container)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Whole lines of text that comes in pieces."""
    pending = ""
    for text in texts:
        *lines, pending = (pending + text).split("\n")
        yield from (f"{line}\n" for line in lines)
    if pending:
        yield pending

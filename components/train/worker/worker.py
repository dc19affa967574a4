"""One worker: `python -m WORKER_MODULE TASK`, the parent of the process that trains.

Its environment says which worker of which group it is (see `group`). It waits for its peers, starts `trainer`
and watches it, and ends with a code of `core.errors`. On a cluster it is process 1 of its container.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from optduel.components.core import ExperimentError, SetupError, exit_on_error, say, stop_on_signals
from optduel.components.numerics import library_environment, taken_out
from optduel.components.settings import decode
from optduel.components.storage import read
from optduel.components.train.contract.control import PROGRESS_VARIABLE, ProgressFile
from optduel.components.train.contract.lease import LEASE_VARIABLE, LeaseWatch
from optduel.components.train.contract.task import WORKER_MODULE, Task
from optduel.components.train.worker.group import Group, group_from_environment
from optduel.components.train.worker.rendezvous import wait_for_peers
from optduel.components.train.worker.supervisor import Supervisor


def main(arguments: list[str]) -> None:
    """Trains the task at a path or URI; exits with 0 or a code of `optduel.components.core.errors`.

    Its peers have `compute.start_seconds` to answer, and so has the training process to begin.
    """
    known: dict[str, int | str] = {}
    with exit_on_error("train", lambda: known):
        if len(arguments) != 1:
            raise ExperimentError(f"{WORKER_MODULE}: takes one argument, the task's path or URI")
        sys.exit(_supervise(arguments[0], known))


def _supervise(task_file: str, known: dict[str, int | str]) -> int:
    """Adds to `known` what a report of failure shall tell."""
    task = decode(Task, read(task_file).decode(), task_file)
    compute = task.compute
    group = group_from_environment(os.environ, compute.workers)
    known["worker"] = group.index
    if group.index == 0 and (names := taken_out(os.environ)):
        say(f"train {task.name}: not passed on, because it can change numbers: {', '.join(names)}")
    name = f"train {task.name}: worker {group.index} of {compute.workers}"
    with (
        stop_on_signals() as request,
        _progress_path() as path,
        contextlib.closing(ProgressFile(path)) as progress,
    ):
        supervisor = Supervisor(name, compute, progress, request, _lease(task, group))
        try:
            wait_for_peers(group, compute.start_seconds, supervisor.tick)
            command = [sys.executable, "-P", "-m", "optduel.components.train.worker.trainer", task_file]
            return supervisor.run(command, _environment(group, path))
        finally:
            known.update(phase=progress.progress().phase, step=progress.progress().step)


@contextlib.contextmanager
def _progress_path() -> Iterator[Path]:
    if told := os.environ.get(PROGRESS_VARIABLE):
        yield Path(told)
    else:
        with tempfile.TemporaryDirectory(prefix="optduel-") as folder:
            yield Path(folder) / "progress"


def _lease(task: Task, group: Group) -> LeaseWatch | None:
    """The job's lease, where its launcher keeps one; the chief watches it for all."""
    told = os.environ.get(LEASE_VARIABLE)
    if told is None:
        return None
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise SetupError(f"{LEASE_VARIABLE} = {told!r}: must be a number of seconds")
    lease = LeaseWatch(task.lease_file, seconds)
    if group.index == 0:
        lease.start()
    return lease


def _environment(group: Group, progress: Path) -> Mapping[str, str]:
    environment = {**library_environment(os.environ), PROGRESS_VARIABLE: str(progress)}
    environment.pop("TF_CONFIG", None)  # the caller's, if any: this group is the one that holds
    if config := group.tf_config():
        environment["TF_CONFIG"] = config
        # Workers talk gRPC, which would ask a proxy of the environment for its peers, and wait for ever where
        # it does not answer. Stores are reached by HTTP, and keep the proxy.
        environment["no_grpc_proxy"] = ",".join(group.hosts)
    return environment


if __name__ == "__main__":
    main(sys.argv[1:])

"""Executes the pipeline on this machine with KFP's own local runner, and keeps what a run has made.

A run's folder, `<root>/runs/<experiment>-<time>/`, holds `run.json` (what ran and what came of it),
`report.html`, `records.html`, `plots/`, `history.parquet`, `run.log` (all that was printed) and `tasks/`
(KFP's artifacts). Where the root is in a store, models are in `models/<arm>/seed-<seed>/`: they go there
while they are trained, as records do. KFP's local runner keeps artifacts on this machine, so the others,
which are small, follow when the run has ended.
"""

import builtins
import contextlib
import datetime
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TextIO

from optduel.components.champions import RetrainingRun, read_retraining_run
from optduel.components.core import (
    TERMINATION_LOG_VARIABLE,
    ConflictError,
    ExperimentError,
    LaunchError,
    StorageError,
    decode_termination,
    read_termination,
)
from optduel.components.results import Comparison, code_version, now, read_document, run_folder
from optduel.components.settings import (
    ALERT_VARIABLES,
    REPLACED_BY_PIPELINES,
    Experiment,
    Section,
    decode,
    image_reference,
)
from optduel.components.storage import (
    Upload,
    as_storage_error,
    is_remote,
    join,
    list_entries,
    local_path,
    publish,
    read,
    resolved,
    stat,
    upload,
)
from optduel.components.tell.ending import Ending
from optduel.components.tell.telling import tell_run
from optduel.pipeline.local.interrupts import stopped_by_signals
from optduel.pipeline.local.narrator import Narrator
from optduel.pipeline.local.scratch import create_held, is_held, scratch_folder, this_machine

LOG_NAME = "run.log"

_TERMINATION = Path("tasks", "termination.json")
"""What the task that failed has left, in the folder that this machine works in."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Run(Section):
    """A run's record, `run.json`; paths are relative to its folder.

    Attributes:
        code_version: of the code that ran it.
        status: "running" also in the file of a run that was killed: `load_run` finds that out.
        holder: the machine that runs it, and the file there that it holds while it does.
        page: the report, or the champion's story; this and the other artifacts are None until the run has
            succeeded, and where a run of its kind has none.
        card: the records' card, with samples of each class.
        changes: of a retraining: what differs from the champion's images.
    """

    experiment: Experiment
    fingerprint: str
    code_version: str
    started: str
    holder: tuple[str, str] | None = None
    finished: str | None = None
    status: Literal["running", "succeeded", "failed"] = "running"
    error: str | None = None
    page: str | None = None
    card: str | None = None
    changes: str | None = None
    plots: str | None = None
    records: str | None = None
    collected: str | None = None
    comparison: str | None = None


def run_experiment(
    experiment: Experiment, root: str, image: str | None = None
) -> tuple[str, Run, Comparison | RetrainingRun]:
    """Runs an experiment to its report.

    Args:
        experiment: what to run.
        root: folder for records and runs, a path or a URI; earlier ones stay as they are.
        image: every task runs in a container of it; without one in a process of this machine.

    Returns:
        The run's folder, its record, and the verdict or what the retraining came to.

    Raises:
        OptduelError: what a task reported.
        LaunchError: a task failed without a report: a defect of ours; the log is named.
    """
    place = join(root) if is_remote(root) else str(resolved(root))
    for sign in REPLACED_BY_PIPELINES:
        if sign in place:
            raise ExperimentError(
                f"--root = {place}: holds {sign!r}, which Kubeflow Pipelines replaces; take another folder"
            )
    if image is not None:
        _check_image(image, place)
    # Where KFP is not installed, nothing is made.
    importlib.import_module("optduel.pipeline.graph.definition")
    run = Run(
        experiment=experiment, fingerprint=experiment.fingerprint, code_version=code_version(), started=now()
    )
    name = _claim(place, run)
    folder = run_folder(place, name)
    with _workplace(folder) as work, _log_file(work) as log:
        try:
            run = run.model_copy(update={"holder": (this_machine(), str(work / LOG_NAME))})
            _save(folder, run)
            outputs = _execute(experiment, place, name, work, log, image)
            _keep(work, folder)
            paths = {output: os.path.relpath(path, work) for output, path in outputs.items()}
            paths |= _show(outputs, folder)
            answer = _answer(experiment, place, name, outputs)
            run = run.model_copy(update={"finished": now(), "status": "succeeded", **paths})
            _save(folder, run)
        except BaseException as error:
            ended = {"finished": now(), "status": "failed", "error": str(error)}
            with contextlib.suppress(StorageError):  # which may be what ended the run, and is told then
                _save(folder, run.model_copy(update=ended))
                _keep(work, folder)
            _tell(experiment, place, name, _ending(error, work))
            raise
    _tell(experiment, place, name, Ending("done"))
    return folder, run, answer


def _answer(
    experiment: Experiment, root: str, name: str, outputs: Mapping[str, Path]
) -> Comparison | RetrainingRun:
    if experiment.retraining is None:
        return read_document(outputs["comparison"], Comparison)
    return read_retraining_run(root, experiment.retraining.champion, name)


def _ending(error: BaseException, work: Path) -> Ending:
    if not isinstance(error, Exception):  # a signal: whoever sent it knows
        return Ending("cancelled")
    file = work / _TERMINATION
    termination = decode_termination(file.read_bytes()) if file.exists() else None
    return Ending("failed", (f"{termination.stage}: {error}" if termination else str(error),))


def _tell(experiment: Experiment, root: str, name: str, ending: Ending) -> None:
    """Sends alerts, where the environment holds addresses of somebody who wants them."""
    if any(os.environ.get(variable) for variable in ALERT_VARIABLES.values()):
        tell_run(experiment.name, root, name, ending)


def _claim(root: str, run: Run) -> str:
    """Writes a new run's record; returns a name that no other run has, even one that starts with this one."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for attempt in range(1, 1000):
        name = f"{run.experiment.name}-{stamp}" + (f"-{attempt}" if attempt > 1 else "")
        folder = run_folder(root, name)
        with contextlib.suppress(ConflictError), _new_folder(folder):
            publish(_record(folder), run.canonical_json().encode(), if_absent=True)
            return name
    raise StorageError(f"{root}: a thousand runs began within one second; wait a second")


@contextlib.contextmanager
def _new_folder(folder: str) -> Iterator[None]:
    """A folder that this run has made, gone again where the body fails; in a store there are none.

    Raises:
        ConflictError: something of this name is there, perhaps with links of somebody else's in it.
        StorageError: it cannot be made.
    """
    if is_remote(folder):
        yield
        return
    path = local_path(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except FileExistsError as error:
        if not path.parent.is_dir():
            raise as_storage_error(error, path.parent) from error
        raise ConflictError(f"{folder}: exists already") from error
    except OSError as error:
        raise as_storage_error(error, path) from error
    try:
        yield
    except StorageError:
        with contextlib.suppress(OSError):  # not empty
            path.rmdir()
        raise


@contextlib.contextmanager
def _workplace(folder: str) -> Iterator[Path]:
    """A folder of this machine: the run's own, or one for the time that the run takes."""
    if not is_remote(folder):
        yield local_path(folder)
        return
    with scratch_folder() as scratch:
        yield scratch


@contextlib.contextmanager
def _log_file(work: Path) -> Iterator[TextIO]:
    """Opens the run's log, which is held until the run ends, and is nobody else's file."""
    path = work / LOG_NAME
    try:
        held = create_held(path)
    except OSError as error:
        raise as_storage_error(error, path) from error
    try:
        with open(os.dup(held), "w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
    finally:
        os.close(held)


def _check_image(reference: str, root: str) -> None:
    from optduel.pipeline.local.containers import check_image

    if is_remote(root):
        raise ExperimentError(f"--root = {root}: with --image it must be a folder of this machine")
    try:
        image_reference(reference)
    except ValueError as error:
        raise ExperimentError(f"--image: {error}") from error
    check_image(reference)


def _execute(
    experiment: Experiment, root: str, name: str, work: Path, log: TextIO, image: str | None
) -> dict[str, Path]:
    """Runs the pipeline; returns the path of each of its outputs."""
    from kfp import local

    from optduel.components.train.stage import MODELS_VARIABLE
    from optduel.pipeline.graph.definition import build
    from optduel.pipeline.graph.placement import LOCAL_IMAGE
    from optduel.pipeline.local.tasks import LocalTasks, in_processes

    tasks = work / "tasks"
    tasks.mkdir()
    termination = work / _TERMINATION
    folder = run_folder(root, name)
    variables = {TERMINATION_LOG_VARIABLE: str(termination)}
    if is_remote(folder):
        variables[MODELS_VARIABLE] = join(folder, "models")
    retraining = experiment.retraining
    trials = len(experiment.arms) * len(experiment.study.seeds)
    if retraining is not None and retraining.mode == "candidate":
        trials = len(retraining.seeds)
    with contextlib.ExitStack() as stack:
        narrator = Narrator(log, sys.stderr, trials)
        stack.callback(narrator.close)
        stack.enter_context(_environment(variables))
        stack.enter_context(contextlib.redirect_stdout(narrator))
        stack.enter_context(contextlib.redirect_stderr(narrator))
        # KFP replaces print() and the log's handlers while a task runs; of two tasks at a time, the one
        # that ends last restores what the other had put there.
        stack.callback(setattr, builtins, "print", builtins.print)
        stack.callback(setattr, logging.getLogger(), "handlers", list(logging.getLogger().handlers))
        stack.enter_context(warnings.catch_warnings())
        # The runner warns of every setting that only a cluster heeds: display names, resources.
        warnings.simplefilter("ignore")
        local_tasks = LocalTasks()
        stack.enter_context(stopped_by_signals(local_tasks))
        if image is None:
            stack.enter_context(in_processes(local_tasks))
            runner = local.SubprocessRunner(use_venv=False)
        else:
            from optduel.pipeline.local.containers import docker_runner

            containers = docker_runner(name, Path(root), experiment, termination, local_tasks)
            runner = stack.enter_context(containers)
        local.init(runner, pipeline_root=str(tasks))
        try:
            finished = build(experiment, None, name, image or LOCAL_IMAGE)(root=root)
        except RuntimeError as error:
            # KFP raises this one type for every task that fails; what failed stands in the termination file.
            if told := read_termination(termination):
                raise told from error
            log_place = join(folder, LOG_NAME)
            words, said = (_COLOURS.sub("", text) for text in (local_tasks.last_words, str(error)))
            raise LaunchError(
                f"{log_place}: a task failed without a report: {words or said}; see the end of this file"
            ) from error
    return {output: Path(artifact.path) for output, artifact in finished.outputs.items()}


def _keep(work: Path, folder: str) -> None:
    """Brings what the run has left on this machine to the store that its folder is in."""
    if is_remote(folder):
        files = [Path(entry.uri) for entry in list_entries(work)]
        upload([Upload(file, join(folder, str(file.relative_to(work)))) for file in files])


def _show(outputs: Mapping[str, Path], folder: str) -> dict[str, str]:
    """Puts what people look at where they find it; returns its place within the run's folder."""
    pages = {"page": "report.html", "card": "records.html"}
    uploads = [Upload(outputs[name], join(folder, page)) for name, page in pages.items() if name in outputs]
    if "plots" not in outputs:  # a retraining, whose stages put their pages there themselves
        upload(uploads)
        return {"page": "timeline.html", "card": pages["card"]}
    plots = [Path(entry.uri) for entry in list_entries(outputs["plots"])]
    upload([*uploads, *(Upload(plot, join(folder, "plots", plot.name)) for plot in plots)])
    return pages | {"plots": "plots"}


def load_run(folder: str) -> Run:
    """Reads the record of a run; one of a run whose process was killed says so, whatever the file says.

    Args:
        folder: the run's, a path or a URI.

    Raises:
        StorageError: the folder holds none.
        ExperimentError: the record is not one.
    """
    if not is_run(folder):
        raise StorageError(f"{folder}: holds no run.json; give the folder of a run, next to its report")
    run = decode(Run, read(_record(folder)), _record(folder))
    machine, held = run.holder or (None, "")
    if run.status == "running" and machine == this_machine() and not is_held(Path(held)):
        return run.model_copy(update={"status": "failed", "error": "its process is gone: it was killed"})
    return run


def is_run(folder: str) -> bool:
    """Whether the folder, a path or a URI, is that of a run of `optduel run`."""
    return stat(_record(folder)) is not None


def _record(folder: str) -> str:
    return join(folder, "run.json")


def _save(folder: str, run: Run) -> None:
    publish(_record(folder), run.canonical_json().encode())


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

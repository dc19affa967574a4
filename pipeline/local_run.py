"""Executes the pipeline on this machine with KFP's own local runner, and keeps what a run has made.

A run's folder, `<root>/runs/<experiment>-<time>/`, holds `run.json` (what ran and what came of it),
`report.html`, `records.html`, `plots/`, `history.parquet`, `run.log` (all that was printed) and `tasks/`
(KFP's artifacts).
"""

import builtins
import contextlib
import datetime
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from components.core.authoring import decode
from components.core.errors import TERMINATION_LOG_VARIABLE, LaunchError, StorageError, read_termination
from components.core.experiment import Experiment, Section
from components.core.lineage import code_version, now
from components.core.results import Comparison, read_document
from components.core.storage import as_storage_error, local_path, publish, read
from pipeline.narrator import Narrator

LOCAL_IMAGE = "python"
"""The local runner ignores images, and warns of a name without this word."""


class Run(Section):
    """A run's record, `run.json`; paths are relative to its folder.

    Attributes:
        code_version: of the code that ran it.
        status: "running" also after the machine went down on it.
        page: the report; this and the other artifacts are None until the run has succeeded.
        card: the records' card, with samples of each class.
    """

    experiment: Experiment
    fingerprint: str
    code_version: str
    started: str
    finished: str | None = None
    status: Literal["running", "succeeded", "failed"] = "running"
    error: str | None = None
    page: str | None = None
    card: str | None = None
    plots: str | None = None
    records: str | None = None
    collected: str | None = None
    comparison: str | None = None


def run_experiment(experiment: Experiment, root: str) -> tuple[Path, Run, Comparison]:
    """Runs an experiment to its report.

    Args:
        experiment: what to run.
        root: folder for records and runs; earlier ones stay as they are.

    Returns:
        The run's folder, its record and the verdict.

    Raises:
        OptduelError: what a task reported.
        LaunchError: a task failed without a report: a defect of ours; the log is named.
    """
    place = local_path(root).resolve()
    folder = _new_folder(place / "runs", experiment.name)
    run = Run(
        experiment=experiment, fingerprint=experiment.fingerprint, code_version=code_version(), started=now()
    )
    _save(folder, run)
    try:
        outputs = _execute(experiment, place, folder)
    except BaseException as error:
        failed = run.model_copy(update={"finished": now(), "status": "failed", "error": str(error)})
        with contextlib.suppress(StorageError):  # a full disk may be what ended the run, and is told then
            _save(folder, failed)
        raise
    paths = {name: os.path.relpath(path, folder) for name, path in outputs.items()}
    shutil.copyfile(outputs["page"], folder / "report.html")
    shutil.copyfile(outputs["card"], folder / "records.html")
    shutil.copytree(outputs["plots"], folder / "plots")
    paths |= {"page": "report.html", "card": "records.html", "plots": "plots"}
    run = run.model_copy(update={"finished": now(), "status": "succeeded", **paths})
    _save(folder, run)
    return folder, run, read_document(outputs["comparison"], Comparison)


def _execute(experiment: Experiment, place: Path, folder: Path) -> dict[str, Path]:
    """Runs the pipeline; returns the path of each of its outputs."""
    from kfp import local

    from pipeline.definition import build

    termination = folder / "termination.json"
    log_path = folder / "run.log"
    trials = len(experiment.arms) * len(experiment.study.seeds)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(log_path.open("w", encoding="utf-8"))
        narrator = Narrator(log, sys.stderr, trials)
        stack.enter_context(_environment({TERMINATION_LOG_VARIABLE: str(termination)}))
        stack.enter_context(contextlib.redirect_stdout(narrator))
        stack.enter_context(contextlib.redirect_stderr(narrator))
        # KFP replaces print() and the log's handlers while a task runs; of two tasks at a time, the one
        # that ends last restores what the other had put there.
        stack.callback(setattr, builtins, "print", builtins.print)
        stack.callback(setattr, logging.getLogger(), "handlers", list(logging.getLogger().handlers))
        stack.enter_context(warnings.catch_warnings())
        # The runner warns of every setting that only a cluster heeds: display names, resources.
        warnings.simplefilter("ignore")
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "tasks"))
        try:
            finished = build(experiment, LOCAL_IMAGE, folder.name)(root=str(place))
        except RuntimeError as error:
            # KFP raises this one type for every task that fails; what failed stands in the termination file.
            if told := read_termination(termination):
                raise told from error
            raise LaunchError(f"{log_path}: a task failed without a report; see its end\n{error}") from error
    return {name: Path(artifact.path) for name, artifact in finished.outputs.items()}


def load_run(folder: Path) -> Run:
    """Reads the record of a run.

    Raises:
        StorageError: the folder holds none.
        ExperimentError: the record is not one.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise StorageError(f"{folder}: holds no run.json; give the folder of a run, next to its report")
    return decode(Run, read(path).decode(), str(path))


def _new_folder(runs: Path, name: str) -> Path:
    """Makes a folder that no other run has, even one that starts in the same second."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for attempt in range(1, 1000):
        folder = runs / (f"{name}-{stamp}" if attempt == 1 else f"{name}-{stamp}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise as_storage_error(error, runs) from error
        return folder
    raise StorageError(f"{runs}: a thousand runs began within one second; wait a second")


def _save(folder: Path, run: Run) -> None:
    publish(folder / "run.json", run.canonical_json().encode())


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

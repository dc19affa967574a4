"""Follows runs on Kubeflow Pipelines: finds them, tells what changes, what failed and why, ends them."""

import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from optduel.components.core import ClusterError, ExperimentError, RunError
from optduel.pipeline.kfp.connection import Connection, named
from optduel.pipeline.kfp.run_tasks import FINAL, RunTask, run_tasks

POLL_SECONDS = 5.0

SILENT_SECONDS = 300.0
"""So long may the server be away while a run is followed; the run does not mind."""

_OURS = re.compile(r"^(?:prepare|train|evaluate|compare|report) failed: ", re.MULTILINE)
_LAUNCHER = re.compile(r"^[IWEF]\d{4} ")
"""A line of KFP's launcher, which runs a task's code."""


def find_run(connection: Connection, run: str) -> Any:
    """A run by identifier or name.

    Raises:
        ExperimentError: there is none, or several have the name.
        ClusterError: the server does not answer, or refuses.
    """
    if _is_identifier(run):
        found = connection.call("read a run", "runs", "run_service_get_run", none_for=404, run_id=run)
        runs = [found] if found else []
    else:
        listed = connection.pages(
            "list runs", "runs", "run_service_list_runs", "runs", filter=named(run), **connection.scope()
        )
        runs = [one for one in listed if one.display_name == run]
    if not runs:
        raise ExperimentError(f"run = {run}: there is none at {connection.host}; see `optduel status`")
    if len(runs) > 1:
        identifiers = ", ".join(one.run_id for one in runs)
        raise ExperimentError(f"run = {run}: is the name of several; give one of {identifiers}")
    if _is_identifier(run):
        return runs[0]
    return connection.call("read a run", "runs", "run_service_get_run", run_id=runs[0].run_id)


def latest_runs(connection: Connection, count: int) -> list[Any]:
    """The newest runs of optduel's pipelines.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    experiments = connection.pages(
        "list experiments",
        "experiments",
        "experiment_service_list_experiments",
        "experiments",
        **connection.scope(),
    )
    ours = [one.experiment_id for one in experiments if one.display_name.startswith("optduel-")]
    runs: list[Any] = []
    for experiment in ours:
        page = connection.call(
            "list runs",
            "runs",
            "run_service_list_runs",
            experiment_id=experiment,
            page_size=count,
            sort_by="created_at desc",
        )
        runs += page.runs or []
    return sorted(runs, key=lambda run: run.created_at, reverse=True)[:count]


def tasks_of(connection: Connection, run: Any) -> list[RunTask]:
    """The tasks of a run that have begun.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    return run_tasks(_nodes(run), specification_of(connection, run))


def specification_of(connection: Connection, run: Any) -> Mapping[str, Any]:
    """The pipeline that a run executes.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    if run.pipeline_spec:
        embedded: Mapping[str, Any] = run.pipeline_spec
        return embedded
    reference = run.pipeline_version_reference
    version = reference and connection.call(
        "read a pipeline version",
        "pipelines",
        "pipeline_service_get_pipeline_version",
        none_for=404,
        pipeline_id=reference.pipeline_id,
        pipeline_version_id=reference.pipeline_version_id,
    )
    return version.pipeline_spec or {} if version else {}


def follow(
    connection: Connection, run_id: str, say: Callable[[str], None], poll: float = POLL_SECONDS
) -> None:
    """Tells every change of a run's tasks until the run has ended.

    Args:
        run_id: the run's identifier.
        say: receives one line for each change.
        poll: seconds between two looks.

    Raises:
        RunError: the run has failed or was cancelled; names the task and its own words.
        ClusterError: the server refuses, or has been away for `SILENT_SECONDS`.
    """
    run = connection.call("read a run", "runs", "run_service_get_run", run_id=run_id)
    specification = specification_of(connection, run)
    known: dict[str, tuple[str, int]] = {}
    heard, away = time.monotonic(), False
    while True:
        for task in run_tasks(_nodes(run), specification):
            now = (task.state, task.attempts)
            if known.get(task.node) != now:
                known[task.node] = now
                again = f", attempt {task.attempts}" if task.attempts > 1 else ""
                say(f"{task.name}: {task.state.lower()}{again}")
        if run.state in FINAL:
            break
        time.sleep(poll)
        try:
            run = connection.call("read a run", "runs", "run_service_get_run", run_id=run_id)
            heard, away = time.monotonic(), False
        except ClusterError as error:
            if time.monotonic() - heard > SILENT_SECONDS:
                raise
            if not away:
                say(f"{error}; the run goes on, trying again")
            away = True
    if run.state != "SUCCEEDED":
        raise RunError(_why(connection, run, specification))


def cancel(connection: Connection, run: Any) -> None:
    """Asks for a run's end; its tasks and jobs are ended by the cluster.

    Raises:
        ExperimentError: it has ended already.
        ClusterError: the server does not answer, or refuses.
    """
    if run.state in FINAL:
        raise ExperimentError(f"run = {run.display_name}: has {run.state.lower()} already")
    connection.call("end a run", "runs", "run_service_terminate_run", run_id=run.run_id)


def log_of(connection: Connection, run_id: str, task: RunTask) -> str | None:
    """What a task has printed so far; None where it is not kept any more, or nothing has begun.

    Read from the pod through KFP's own API server, which after the pod's end reads the archive of Argo, if
    there is one. No part of the documented API: it is what KFP's own pages show.

    Raises:
        ClusterError: the server does not answer.
    """
    if task.pod is None:
        return None
    path = f"/apis/v1alpha1/runs/{run_id}/nodes/{task.pod}/log"
    text: str | None = connection.read("read a task's log", path, as_type="str", none_for=500)
    return text


def words_of(log: str) -> str:
    """The error in a task's log: what the stage says of it, or else the last lines."""
    lines = [line for line in log.splitlines() if line.strip() and not _LAUNCHER.match(line)]
    for index in range(len(lines) - 1, -1, -1):
        if found := _OURS.match(lines[index]):
            return "\n".join([lines[index][found.end() :], *lines[index + 1 :]])
    return "\n".join(lines[-5:])


def _why(connection: Connection, run: Any, specification: Mapping[str, Any]) -> str:
    where = f"{run.display_name} ({run.run_id})"
    ended = "was cancelled" if run.state == "CANCELED" else f"has {run.state.lower()}"
    failed = [task for task in run_tasks(_nodes(run), specification) if task.state == "FAILED"]
    if run.state == "CANCELED" or not failed:
        reason = f": {run.error.message}" if run.error and run.error.message else ""
        return f"{where}: {ended}{reason}"
    told = []
    for task in failed:
        log = log_of(connection, run.run_id, task)
        words = (
            words_of(log) if log else f"its log is gone; see {connection.page(f'runs/details/{run.run_id}')}"
        )
        told.append(f"{task.name}: {words}")
    return f"{where}: {ended}\n" + "\n".join(told)


def _nodes(run: Any) -> list[Any]:
    return (run.run_details and run.run_details.task_details) or []


def _is_identifier(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

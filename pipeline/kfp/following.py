"""Follows runs on Kubeflow Pipelines: finds them, tells what changes, what failed and why, ends them."""

import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from optduel.components.core import MARK, ClusterError, ExperimentError, RunError
from optduel.components.results import run_folder
from optduel.components.workflows import (
    FINAL,
    Pod,
    RunTask,
    Workflow,
    read_workflow,
    run_tasks,
    specification_of,
)
from optduel.pipeline.kfp.connection import Connection, named

POLL_SECONDS = 10.0
"""A step of a run takes this long at least."""

SILENT_SECONDS = 300.0
"""So long may the server be away while a run is followed; the run does not mind."""

SETTLING_SECONDS = 60.0
"""So long a run that has ended is looked at for the end of its Workflow."""

VERDICTS = {"compare": f"{MARK}verdict: ", "promote": f"{MARK}promote: ", "skip": f"{MARK}promote: "}
"""Of the tasks that answer the experiment's question, what begins the lines that do."""

_LAUNCHER = re.compile(r"^[IWEF]\d{4} ")
"""A line of KFP's launcher, which runs a task's code."""

_LOG_ERROR = '{"error_message":"'
"""Begins what the server answers, with status 200, where it finds no log."""


def find_run(connection: Connection, run: str) -> Any:
    """A run by identifier or name.

    Raises:
        ExperimentError: there is none, or several have the name.
        ClusterError: the server does not answer, or refuses.
    """
    if _is_identifier(run):
        found = connection.call("read a run", "runs", "run_service_get_run", none_for=(404,), run_id=run)
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


def folder_of(connection: Connection, run: str) -> str:
    """Where a run's results are.

    Args:
        run: its identifier or name.

    Raises:
        ExperimentError: there is none, several have the name, or optduel did not start it.
        ClusterError: the server does not answer, or refuses.
    """
    found = find_run(connection, run)
    parameters = (found.runtime_config and found.runtime_config.parameters) or {}
    if "root" not in parameters:
        raise ExperimentError(f"run = {run}: tells no root, so optduel did not start it; give its folder")
    return run_folder(str(parameters["root"]), found.run_id)


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


def state_of(run: Any) -> str:
    """A run's state in our words: PENDING, RUNNING, CANCELING, or one of `FINAL`.

    The server tells nothing before the start, and FAILED of a run that somebody has ended.
    """
    state: str = run.state or "PENDING"
    history = [one.state for one in run.state_history or ()]
    if state == "CANCELED" or (state == "FAILED" and history[-2:] == ["CANCELING", "FAILED"]):
        return "CANCELLED"
    return state


def workflow_of(connection: Connection, run_id: str) -> Workflow:
    """The Workflow of a run.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    answer = _look(connection, run_id)
    return read_workflow(answer, specification_of(answer))


def follow(
    connection: Connection, run_id: str, say: Callable[[str], None], poll: float = POLL_SECONDS
) -> list[str]:
    """Tells every change of a run's tasks until the run has ended.

    A look is two requests, whatever the size of the run: with the given pause, twelve a minute.

    Args:
        run_id: the run's identifier.
        say: receives one line for each change.
        poll: seconds between two looks.

    Returns:
        The verdict, a sentence for each comparison; empty where the log that holds it is gone.

    Raises:
        RunError: the run has failed or was cancelled; names the tasks and their own words.
        ClusterError: the server refuses, or has been away for `SILENT_SECONDS`.
    """
    answer = _look(connection, run_id)
    specification = specification_of(answer)
    known: dict[str, str] = {}
    heard, ended, away = time.monotonic(), None, False
    while True:
        try:
            # In this order: what has ended before the look at its Workflow is complete there.
            run = connection.call("read a run", "runs", "run_service_get_run", run_id=run_id)
            workflow = read_workflow(_look(connection, run_id), specification)
        except ClusterError as error:
            if time.monotonic() - heard > SILENT_SECONDS:
                raise
            if not away:
                say(f"{error}; the run goes on, trying again")
            away = True
            time.sleep(poll)
            continue
        heard, away = time.monotonic(), False
        tasks = run_tasks(workflow)
        for task in tasks:
            line = _line(task)
            if known.get(task.name, "waiting") != line:
                known[task.name] = line
                say(f"{task.name}: {line}")
        if state_of(run) in FINAL:
            ended = ended or time.monotonic()
            if workflow.has_ended or time.monotonic() - ended > SETTLING_SECONDS:
                break
        time.sleep(poll)
    if state_of(run) != "SUCCEEDED":
        raise RunError(_why(connection, run, workflow, tasks))
    return verdict_of(connection, run_id, workflow)


def cancel(connection: Connection, run: Any) -> None:
    """Asks for a run's end; its tasks and jobs are ended by the cluster.

    Raises:
        ExperimentError: it has ended already, or its end was asked for.
        ClusterError: the server does not answer, or refuses.
    """
    state = state_of(run)
    if state in FINAL:
        raise ExperimentError(f"run = {run.display_name}: has ended already: {state.lower()}")
    if state == "CANCELING":
        raise ExperimentError(
            f"run = {run.display_name}: is being ended already, which takes about half a minute; a run whose "
            "schedule was deleted under it stays so for ever"
        )
    # The server refuses this for a run that has ended meanwhile.
    asked = connection.call(
        "end a run", "runs", "run_service_terminate_run", none_for=(400,), run_id=run.run_id
    )
    if asked is None:
        raise ExperimentError(f"run = {run.display_name}: has ended already; see `optduel status`")


def log_of(connection: Connection, run_id: str, workflow: Workflow, pod: Pod) -> str | None:
    """What a pod has printed so far; None where it is not kept any more, or nothing has begun.

    Read as KFP's own pages do: these addresses are no part of the documented API. Behind both of them the
    log is read from the pod, and after the pod's end from the archive of Argo, if there is one.

    Raises:
        ClusterError: the server does not answer.
    """
    purpose = "read a task's log"
    if connection.is_through_ui:
        query = {
            "podname": pod.name,
            "runid": run_id,
            "podnamespace": workflow.namespace,
            "createdat": pod.created,
        }
        gone = (404, 500)
        text = connection.read(purpose, "/k8s/pod/logs", is_text=True, none_for=gone, query=query)
    else:
        path = f"/apis/v1alpha1/runs/{run_id}/nodes/{pod.name}/log"
        text = connection.read(purpose, path, is_text=True, none_for=(500,))
    return None if text is None or text.startswith(_LOG_ERROR) else str(text)


def last_words(log: str) -> str:
    """The last lines of a log, for an end of which nothing else is known."""
    lines = [line for line in log.splitlines() if line.strip() and not _LAUNCHER.match(line)]
    return "\n".join(lines[-5:])


def _look(connection: Connection, run_id: str) -> Any:
    return connection.read("read a run's Workflow", f"/apis/v1beta1/runs/{run_id}")


def _line(task: RunTask) -> str:
    again = f", attempt {task.attempts}" if task.attempts > 1 else ""
    reason = f": {task.message}" if task.message else ""
    return f"{task.state.lower()}{again}{reason}"


def _why(connection: Connection, run: Any, workflow: Workflow, tasks: Sequence[RunTask]) -> str:
    where = f"{run.display_name} ({run.run_id})"
    state = state_of(run)
    if state == "CANCELLED":
        return f"{where}: was cancelled"
    failed = [task for task in tasks if task.state == "FAILED"]
    if not failed:
        reason = run.error.message if run.error and run.error.message else "no task tells why"
        return f"{where}: has {state.lower()}: {reason}; see {connection.page(f'runs/details/{run.run_id}')}"
    told = [f"{task.name}: {_words(connection, run.run_id, workflow, task)}" for task in failed]
    return "\n".join([f"{where}: has {state.lower()}", *told])


def _words(connection: Connection, run_id: str, workflow: Workflow, task: RunTask) -> str:
    """A failed task's own words, or else what the cluster says of it and the end of its log."""
    pod = task.pods[-1] if task.pods else None
    if pod and pod.has_told:
        return str(pod.message)
    log = log_of(connection, run_id, workflow, pod) if pod else None
    words = last_words(log) if log else f"its log is gone; see {connection.page(f'runs/details/{run_id}')}"
    return "\n".join(part for part in (task.message, words) if part)


def verdict_of(connection: Connection, run_id: str, workflow: Workflow) -> list[str]:
    """What a run has answered, in sentences; none where the logs of its tasks are gone.

    Raises:
        ClusterError: the server does not answer.
    """
    told = []
    for task in run_tasks(workflow):
        mark = VERDICTS.get(task.name)
        log = log_of(connection, run_id, workflow, task.pods[-1]) if mark and task.pods else None
        told += [
            line.removeprefix(mark) for line in (log or "").splitlines() if mark and line.startswith(mark)
        ]
    return told


def _is_identifier(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

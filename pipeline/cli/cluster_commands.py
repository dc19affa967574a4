"""The commands that run experiments on Kubeflow Pipelines: submit, status, logs, cancel, doctor."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from optduel.components.core import ExperimentError
from optduel.components.redaction import showable
from optduel.pipeline.cli.arguments import (
    access_of,
    add_access_arguments,
    add_deployment_arguments,
    add_experiment_arguments,
    authored_by,
    deployment_of,
    experiment_of,
    print_json,
    tell_cautions,
)

if TYPE_CHECKING:
    from optduel.pipeline.kfp.connection import Connection

Adder = Callable[..., argparse.ArgumentParser]
"""Adds a command: what runs it, its name, purpose and example."""

_LATEST = 20
"""Runs that are listed."""

_ANY_IMAGE = "optduel:any"
"""For the doctor, who looks at no image: only nodes can tell whether they can pull it."""


def add_cluster_commands(add: Adder) -> None:
    """Adds the commands."""
    submitting = add(
        _submit,
        "submit",
        "Run an experiment on Kubeflow Pipelines.",
        "optduel submit digits --deployment trainjob --image registry/optduel:1 --wait",
    )
    status = add(
        _status,
        "status",
        "Show the tasks of a run on Kubeflow Pipelines. Without RUN, show the latest runs.",
        "optduel status digits-20261124T101500Z",
    )
    logs = add(
        _logs,
        "logs",
        "Show what the tasks of a run on Kubeflow Pipelines have printed.",
        "optduel logs digits-20261124T101500Z 'train adamw seed 3'",
    )
    cancelling = add(
        _cancel, "cancel", "Cancel a run on Kubeflow Pipelines.", "optduel cancel digits-20261124T101500Z"
    )
    doctor = add(
        _doctor,
        "doctor",
        "Check a cluster before anything is spent on it.",
        "optduel doctor --deployment trainjob --workers 2",
    )
    add_experiment_arguments(submitting)
    for sub in (submitting, doctor):
        add_deployment_arguments(sub)
    for sub in (submitting, status, logs, cancelling, doctor):
        add_access_arguments(sub)
    for sub in (submitting, status, doctor):
        sub.add_argument("--json", action="store_true", help="print the answer as JSON")
    submitting.add_argument(
        "--dry-run", action="store_true", help="print what would be sent, and send nothing"
    )
    submitting.add_argument(
        "--wait", action="store_true", help="follow the run until it ends; the exit code says how"
    )
    status.add_argument("run", nargs="?", metavar="RUN", help="name or identifier of a run")
    for sub in (logs, cancelling):
        sub.add_argument("run", metavar="RUN", help="name or identifier of a run (see `optduel status`)")
    logs.add_argument(
        "task", nargs="?", metavar="TASK", help="name of a task, or its beginning; all tasks without it"
    )
    doctor.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="number of workers of each training job (default: %(default)s)",
    )


def _submit(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.showing import print_plan, run_plan
    from optduel.pipeline.kfp.connection import Connection
    from optduel.pipeline.kfp.following import follow
    from optduel.pipeline.kfp.submission import prepare, submit

    experiment = experiment_of(options)
    submission = prepare(experiment, deployment_of(options), authored_by(options))
    tell_cautions(experiment)
    if options.dry_run:
        print_plan(run_plan(submission, access_of(options).namespace), submission, options.json)
        return
    connection = Connection(access_of(options))
    run = submit(connection, submission)
    if options.json and not options.wait:
        print_json(dataclasses.asdict(run))
        return
    print(f"run: {run.name} ({run.run_id})\nversion: {run.pipeline} {run.version}", file=sys.stderr)
    if not options.json:
        print(f"address: {run.address or run.run_id}")
    if options.wait:
        try:
            verdict = follow(connection, run.run_id, _say)
        except KeyboardInterrupt:
            _say(
                f"the run goes on: `optduel status {run.name}` shows it, `optduel cancel {run.name}` ends it"
            )
            raise
        if options.json:
            print_json({**dataclasses.asdict(run), "state": "SUCCEEDED", "verdict": verdict})
        else:
            print(
                "\n".join(verdict or ["verdict: its log is gone; see the task `compare` on the run's page"])
            )


def _status(options: argparse.Namespace) -> None:
    from optduel.components.workflows import run_tasks
    from optduel.pipeline.cli.tabular import Shown, as_text
    from optduel.pipeline.kfp.following import find_run, latest_runs, state_of, workflow_of

    connection = _open(options)
    if options.run is None:
        columns = [Shown(name, name) for name in ("run", "state", "created", "id")]
        records = [_run_record(run) for run in latest_runs(connection, _LATEST)]
    else:
        run = find_run(connection, options.run)
        columns = [Shown(name, name) for name in ("name", "state", "attempts", "message")]
        records = [dataclasses.asdict(task) for task in run_tasks(workflow_of(connection, run.run_id))]
        if options.json:
            print_json({**_run_record(run), "tasks": records})
            return
        address = connection.page(f"runs/details/{run.run_id}")
        print(f"run: {run.display_name} ({run.run_id})\nstate: {state_of(run)}\naddress: {address or '-'}\n")
    if options.json:
        print_json(records)
    elif records:
        print(as_text(records, columns), end="")
    else:
        print("there are no runs yet", file=sys.stderr)


def _logs(options: argparse.Namespace) -> None:
    from optduel.components.workflows import run_tasks
    from optduel.pipeline.kfp.following import find_run, log_of, workflow_of

    connection = _open(options)
    run = find_run(connection, options.run)
    workflow = workflow_of(connection, run.run_id)
    tasks = [task for task in run_tasks(workflow) if task.pods]
    chosen = [task for task in tasks if options.task is None or task.name.startswith(options.task)]
    exact = [task for task in chosen if task.name == options.task]
    if not chosen:
        known = ", ".join(task.name for task in tasks) or "none yet"
        raise ExperimentError(f"TASK = {options.task}: no task of this name has begun; these have: {known}")
    for task in exact or chosen:
        for attempt, pod in enumerate(task.pods, start=1):
            again = f", attempt {attempt} of {len(task.pods)}" if len(task.pods) > 1 else ""
            print(f"==> {task.name}{again}: {pod.state.lower()} <==", file=sys.stderr)
            log = log_of(connection, run.run_id, workflow, pod)
            if log is None:
                print("it has printed nothing yet, or its log is no longer kept", file=sys.stderr)
            else:
                print(showable(log), end="" if log.endswith("\n") else "\n")


def _cancel(options: argparse.Namespace) -> None:
    from optduel.pipeline.kfp.following import cancel, find_run

    connection = _open(options)
    run = find_run(connection, options.run)
    cancel(connection, run)
    print(f"{run.display_name}: is being cancelled")


def _doctor(options: argparse.Namespace) -> int:
    from optduel.pipeline.doctor.doctor import examine

    if options.image is None:
        options.image = _ANY_IMAGE
    checks = []
    for check in examine(access_of(options), deployment_of(options), options.workers):
        checks.append(check)
        if not options.json:
            print(showable(f"{check.status:<7}  {check.name}: {check.detail}"), flush=True)
    if options.json:
        print_json([dataclasses.asdict(check) for check in checks])
    return 1 if any(check.status == "failed" for check in checks) else 0


def _open(options: argparse.Namespace) -> "Connection":
    from optduel.pipeline.kfp.connection import Connection

    connection = Connection(access_of(options))
    connection.open()
    return connection


def _run_record(run: Any) -> dict[str, Any]:
    from optduel.pipeline.kfp.following import state_of

    return {
        "run": run.display_name,
        "id": run.run_id,
        "state": state_of(run),
        "created": run.created_at.isoformat(timespec="seconds") if run.created_at else None,
    }


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {showable(line)}", file=sys.stderr, flush=True)

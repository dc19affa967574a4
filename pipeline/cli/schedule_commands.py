"""The command `optduel schedule`: recurring runs on Kubeflow Pipelines."""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

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
from optduel.pipeline.cli.schedules_as_code_commands import add_schedules_as_code_commands

if TYPE_CHECKING:
    from optduel.pipeline.kfp.connection import Connection


def add_schedule_commands(schedule: argparse.ArgumentParser) -> None:
    """Adds the commands below `optduel schedule`."""
    commands = schedule.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        command: Callable[[argparse.Namespace], int | None], name: str, purpose: str, example: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=purpose,
            description=purpose,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        return sub

    creating = add(
        _create,
        "create",
        "Start runs at the times of a cron expression: one at a time; a missed one is left out.",
        "optduel schedule create digits --cron '0 0 6 * * 1' --image registry/optduel:1",
    )
    listing = add(_list, "list", "List the schedules.", "optduel schedule list")
    pausing = add(
        _pause, "pause", "Pause a schedule: it starts no runs.", "optduel schedule pause optduel-digits"
    )
    resuming = add(
        _resume,
        "resume",
        "Resume a paused schedule: the last time that it has missed has its run at once.",
        "optduel schedule resume optduel-digits",
    )
    deleting = add(
        _delete,
        "delete",
        "Delete a schedule of which no run is under way; results and records of its runs stay.",
        "optduel schedule delete optduel-digits",
    )
    add_schedules_as_code_commands(add)
    creating.add_argument(
        "--cron",
        required=True,
        metavar="EXPRESSION",
        help="six fields: second minute hour day-of-month month day-of-week; or @daily, ... Times are in the "
        "server's time zone: UTC, unless its administrator has set another",
    )
    creating.add_argument(
        "--name", metavar="NAME", help="name of the schedule (default: optduel-<experiment>)"
    )
    creating.add_argument(
        "--replace", action="store_true", help="replace the schedule of this name; a run of it goes on"
    )
    creating.add_argument(
        "--paused", action="store_true", help="create it paused: it starts no runs until it is resumed"
    )
    for sub in (pausing, resuming, deleting):
        sub.add_argument("name", metavar="NAME", help="name of the schedule (see `optduel schedule list`)")
    add_experiment_arguments(creating)
    add_deployment_arguments(creating)
    creating.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    for sub in (creating, listing, pausing, resuming, deleting):
        add_access_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print the answer as JSON")


def _create(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.showing import print_plan, schedule_plan
    from optduel.pipeline.kfp.connection import Connection
    from optduel.pipeline.kfp.cron import parse_cron
    from optduel.pipeline.kfp.scheduling import create_schedule
    from optduel.pipeline.kfp.submission import prepare

    cron = parse_cron(options.cron)
    experiment = experiment_of(options)
    submission = prepare(experiment, deployment_of(options), authored_by(options))
    tell_cautions(experiment)
    name = options.name or submission.pipeline
    if options.dry_run:
        plan = schedule_plan(submission, name, cron.text, not options.paused, access_of(options).namespace)
        print_plan(plan, submission, options.json)
        return
    connection = Connection(access_of(options))
    schedule = create_schedule(
        connection, submission, name, cron, replace=options.replace, enabled=not options.paused
    )
    times = [
        time.isoformat(timespec="seconds") for time in cron.next_times(datetime.datetime.now(datetime.UTC), 3)
    ]
    if options.json:
        print_json({**dataclasses.asdict(schedule), "next": times})
        return
    print(f"schedule: {schedule.name}\nversion: {submission.pipeline} {submission.version}")
    print(f"next, if the server's time zone is UTC: {', '.join(times)}")


def _list(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.tabular import Shown, as_text
    from optduel.pipeline.kfp.scheduling import list_schedules

    records = [dataclasses.asdict(one) for one in list_schedules(_open(options))]
    if options.json:
        print_json(records)
        return
    if not records:
        print("there are no schedules yet", file=sys.stderr)
        return
    columns = (
        Shown("schedule", "name"),
        Shown("state", "state"),
        Shown("cron", "cron"),
        Shown("version", "version"),
    )
    print(as_text(records, columns), end="")


def _pause(options: argparse.Namespace) -> None:
    _switch(options, enabled=False)


def _resume(options: argparse.Namespace) -> None:
    _switch(options, enabled=True)


def _switch(options: argparse.Namespace, enabled: bool) -> None:
    from optduel.pipeline.kfp.scheduling import switch_schedule

    switch_schedule(_open(options), options.name, enabled)
    _done(options, "resumed" if enabled else "paused")


def _delete(options: argparse.Namespace) -> None:
    from optduel.pipeline.kfp.scheduling import delete_schedule

    delete_schedule(_open(options), options.name)
    _done(options, "deleted")


def _open(options: argparse.Namespace) -> "Connection":
    from optduel.pipeline.kfp.connection import Connection

    connection = Connection(access_of(options))
    connection.open()
    return connection


def _done(options: argparse.Namespace, what: str) -> None:
    print(json.dumps({"name": options.name, "done": what}) if options.json else f"{options.name}: {what}")

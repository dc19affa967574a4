"""The commands `optduel schedule plan`, `apply`, `import`, `status`: schedules as a file, and how they do."""

import argparse
import dataclasses
import datetime
import os
import sys
import zoneinfo
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from optduel.components.core import ExperimentError
from optduel.components.redaction import printable
from optduel.pipeline.cli.arguments import access_of, add_access_arguments, print_json

if TYPE_CHECKING:
    from optduel.pipeline.kfp.connection import Connection
    from optduel.pipeline.kfp.reconciling import Change
    from optduel.pipeline.kfp.schedule_health import ScheduleHealth

Add = Callable[[Callable[[argparse.Namespace], int | None], str, str, str], argparse.ArgumentParser]

DEFAULT_FILE = "schedules.yaml"

DIFFERS = 3
"""Exit code of `plan --detailed-exitcode` where something would change; 1 and 2 mean what they always do."""

_SIGNS = {
    "create": "+",
    "replace": "~",
    "resume": "~",
    "pause": "~",
    "tidy": "-",
    "delete": "-",
    "keep": " ",
    "unnamed": " ",
    "wait": " ",
}


def add_schedules_as_code_commands(add: Add) -> None:
    """Adds the commands below `optduel schedule`."""
    planning = add(
        _plan,
        "plan",
        "Show what `apply` would change, and change nothing.",
        "optduel schedule plan -f schedules.yaml --detailed-exitcode",
    )
    applying = add(
        _apply,
        "apply",
        "Make the schedules what a file says. No time gets two runs, and no run under way ends.",
        "optduel schedule apply -f schedules.yaml",
    )
    importing = add(
        _import,
        "import",
        "Print the file that describes the schedules that are there.",
        "optduel schedule import",
    )
    status = add(
        _status,
        "status",
        "Show each schedule's last and next run. Exits with 1 where one is overdue, or its last run failed.",
        "optduel schedule status --alert",
    )
    for sub in (planning, applying):
        sub.add_argument(
            "-f", "--file", default=DEFAULT_FILE, metavar="FILE", help="the file (default: %(default)s)"
        )
        sub.add_argument(
            "--prune", action="store_true", help="delete schedules of optduel that the file does not name"
        )
    planning.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help=f"exit with {DIFFERS} where something would change, with 0 where nothing would",
    )
    status.add_argument(
        "--time-zone",
        default="UTC",
        metavar="ZONE",
        help="time zone of the server's cron expressions, its CRON_SCHEDULE_TIMEZONE (default: %(default)s)",
    )
    status.add_argument(
        "--grace-minutes",
        type=float,
        default=10.0,
        metavar="N",
        help="so long after its time a run may begin (default: %(default)g)",
    )
    status.add_argument(
        "--alert",
        action="store_true",
        help="tell of overdue schedules, to the addresses in the environment; see components/tell/README.md",
    )
    for sub in (planning, applying, importing, status):
        add_access_arguments(sub)
    for sub in (planning, applying, status):
        sub.add_argument("--json", action="store_true", help="print the answer as JSON")


def _connection(options: argparse.Namespace) -> "Connection":
    from optduel.pipeline.kfp.connection import Connection

    return Connection(access_of(options))


def _plan(options: argparse.Namespace) -> int:
    from optduel.pipeline.cli.schedule_file import load_schedules
    from optduel.pipeline.kfp.reconciling import CHANGING, plan

    wanted = load_schedules(options.file)
    changes = plan(_connection(options), wanted, options.prune)
    if options.json:
        print_json([dataclasses.asdict(one) for one in changes])
    else:
        for change in changes:
            print(_line(change))
        print(_summary(changes, "to "))
    differs = any(change.kind in CHANGING for change in changes)
    return DIFFERS if differs and options.detailed_exitcode else 0


def _apply(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.schedule_file import load_schedules
    from optduel.pipeline.kfp.reconciling import apply

    wanted = load_schedules(options.file)
    done: list[Change] = []
    for change in apply(_connection(options), wanted, options.prune):
        done.append(change)
        if not options.json:
            print(_line(change), flush=True)
    if options.json:
        print_json([dataclasses.asdict(one) for one in done])
    else:
        print(_summary(done, ""))


def _line(change: "Change") -> str:
    reasons = "".join(f"\n    {reason}" for reason in change.reasons)
    return printable(f"{_SIGNS[change.kind]} {change.kind} {change.name}{reasons}")


def _summary(changes: Sequence["Change"], before: str) -> str:
    counts = {
        kind: sum(change.kind == kind for change in changes)
        for kind in _SIGNS
        if any(change.kind == kind for change in changes)
    }
    return ", ".join(f"{count} {before}{kind}" for kind, count in counts.items()) or "no schedules"


def _import(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.schedule_file import as_file
    from optduel.pipeline.kfp.scheduling import list_schedules

    connection = _connection(options)
    connection.open()
    current = [one for one in list_schedules(connection) if one.state != "replaced"]
    text, left_out = as_file(current)
    print(text, end="")
    for problem in left_out:
        print(f"left out: {problem}", file=sys.stderr)


def _status(options: argparse.Namespace) -> int:
    from optduel.pipeline.cli.tabular import Shown, as_text
    from optduel.pipeline.kfp.schedule_health import schedule_healths

    zone, grace = _zone(options.time_zone), datetime.timedelta(minutes=options.grace_minutes)
    connection = _connection(options)
    connection.open()
    found = schedule_healths(connection, zone, grace)
    records = [dataclasses.asdict(one) for one in found]
    if options.json:
        print_json(records)
    elif not records:
        print("there are no schedules yet", file=sys.stderr)
    else:
        columns = (
            Shown("schedule", "name"),
            Shown("state", "state"),
            Shown("last run", "last_run"),
            Shown("ended", "last_state"),
            Shown("next", "next"),
            Shown("outcome", "outcome"),
            Shown("problem", "problem"),
        )
        print(as_text(records, columns), end="")
    if options.alert:
        _alert([one for one in found if one.overdue_since])
    return 1 if any(one.problem for one in found) else 0


def _zone(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ExperimentError(
            f"--time-zone = {name}: is not known here; give a name such as Europe/Berlin"
        ) from error


def _alert(overdue: Sequence["ScheduleHealth"]) -> None:
    """Sends one alert for each; told again, it is the same CloudEvent."""
    from optduel.components.results import Notice
    from optduel.components.tell.alerts import Alert
    from optduel.components.tell.telling import send

    now = datetime.datetime.now(datetime.UTC)
    alerts = [
        Alert(
            Notice(
                event="optduel.schedule.overdue",
                subject=one.name,
                summary=f"The schedule {one.name} has started no run since {one.overdue_since}.",
                details={"last_run": one.last_run, "last_state": one.last_state, "next": one.next},
            ),
            f"/optduel/schedules/{one.name}",
            f"optduel.schedule.overdue/{one.overdue_since}",
            now,
        )
        for one in overdue
    ]
    if alerts:
        send(alerts, os.environ)

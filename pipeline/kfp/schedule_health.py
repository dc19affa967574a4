"""How schedules do: their last run and what became of it, their next time, and whether one is overdue."""

import datetime
from dataclasses import dataclass
from typing import Any

from optduel.components.workflows import FINAL
from optduel.pipeline.kfp import moments
from optduel.pipeline.kfp.connection import Connection
from optduel.pipeline.kfp.cron import Cron, parse_cron
from optduel.pipeline.kfp.following import state_of, verdict_of, workflow_of
from optduel.pipeline.kfp.scheduling import Kept, latest_of, survey

_WINDOWS = tuple(datetime.timedelta(days=days) for days in (1 / 720, 1 / 24, 1, 7, 31, 366, 5 * 366))
"""In which the last time is looked for, one after the other."""


@dataclass(frozen=True)
class ScheduleHealth:
    """How a schedule does; times are in ISO 8601.

    Attributes:
        state: "enabled" or "paused".
        last_run: name of the newest run, also of what this schedule has replaced.
        last_run_id: its identifier.
        last_state: what became of it, as `optduel status` says it.
        outcome: what that run has answered, as `submit --wait` prints it; None where its logs are gone.
        last_begun: when it was created.
        next: time, where it is enabled and has one.
        overdue_since: the time at which a run should have begun.
        problem: what somebody has to look at.
    """

    name: str
    state: str
    last_run: str | None
    last_run_id: str | None
    last_state: str | None
    outcome: str | None
    last_begun: str | None
    next: str | None
    overdue_since: str | None
    problem: str | None


def schedule_healths(
    connection: Connection, zone: datetime.tzinfo, grace: datetime.timedelta
) -> list[ScheduleHealth]:
    """How all schedules of optduel do, by name.

    Args:
        connection: opened.
        zone: in which the server reads cron expressions.
        grace: so long after its time a run may begin.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    now = moments.CLOCK.now().astimezone(zone)
    found = survey(connection).kept
    return [_health(connection, name, found[name], now, grace) for name in sorted(found)]


def _health(
    connection: Connection, name: str, kept: Kept, now: datetime.datetime, grace: datetime.timedelta
) -> ScheduleHealth:
    current = kept.current
    runs = [run for one in (current, *kept.others) for run in latest_of(connection, one)]
    runs.sort(key=lambda run: str(run.created_at))
    last = runs[-1] if runs else None
    is_enabled = current.status == "ENABLED"
    trigger = current.trigger and current.trigger.cron_schedule
    cron = parse_cron(trigger.cron) if trigger else None
    upcoming = cron.following(now) if cron and is_enabled else None
    overdue = _overdue(current, cron, runs, now - grace) if cron and is_enabled else None
    state = state_of(last) if last else None
    return ScheduleHealth(
        name=name,
        state="enabled" if is_enabled else "paused",
        last_run=last.display_name if last else None,
        last_run_id=last.run_id if last else None,
        last_state=state.lower() if state else None,
        outcome=_outcome(connection, last.run_id) if last and state == "SUCCEEDED" else None,
        last_begun=_text(last.created_at) if last else None,
        next=_text(upcoming),
        overdue_since=_text(overdue),
        problem=_problem(state, overdue),
    )


def _outcome(connection: Connection, run_id: str) -> str | None:
    return " ".join(verdict_of(connection, run_id, workflow_of(connection, run_id))) or None


def _problem(state: str | None, overdue: datetime.datetime | None) -> str | None:
    if overdue is not None:
        return "overdue"
    return f"the last run has {state.lower()}" if state == "FAILED" else None


def _overdue(current: Any, cron: Cron, runs: list[Any], until: datetime.datetime) -> datetime.datetime | None:
    """The last time up to a moment, unless it has its run or a run before it is still under way.

    Times before the schedule was created or begun do not count. When it was resumed is not known: the server
    calls it updated all the time. It makes up at once for the last time that it has missed then.
    """
    trigger = current.trigger.cron_schedule
    since = [one for one in (current.created_at, trigger.start_time) if one]
    tick = last_time(cron, until)
    if tick is None or any(tick <= one for one in since):
        return None
    if any(state_of(run) not in FINAL for run in runs):
        return None  # one run at a time
    begun = [run.scheduled_at or run.created_at for run in runs]
    return None if any(one >= tick for one in begun) else tick


def last_time(cron: Cron, until: datetime.datetime) -> datetime.datetime | None:
    """The last time of an expression up to and including a moment; None where five years have none."""
    for window in _WINDOWS:
        last = None
        tick = cron.following(until - window)
        while tick is not None and tick <= until:
            last, tick = tick, cron.following(tick)
        if last is not None:
            return last
    return None


def _text(moment: datetime.datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None

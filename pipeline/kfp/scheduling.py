"""Recurring runs on Kubeflow Pipelines: one experiment's version, started by a cron expression.

A recurring run is pinned to its version. KFP cannot change one: it is replaced. Keeping names apart is our
affair: KFP tells recurring runs apart by identifiers only. The Workflows of its runs belong to a recurring
run and are deleted with it, also one that is under way; so a recurring run is only deleted when none is.
Until then it stays, paused, beside the one that has replaced it.
"""

import dataclasses
import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from optduel.components.core import ExperimentError, say
from optduel.components.workflows import FINAL
from optduel.pipeline.kfp.connection import Connection, named
from optduel.pipeline.kfp.cron import Cron, parse_cron
from optduel.pipeline.kfp.following import state_of
from optduel.pipeline.kfp.submission import Submission, place

_SERVICE = "recurring_runs"
_LIST = "recurring_run_service_list_recurring_runs"

AFTER_TICK_SECONDS = 45
"""A run begins up to 40 s after its time, and what is switched before it has begun loses or doubles one."""

BEFORE_TICK_SECONDS = 12
"""So long before the next time all requests of a replacement have to be done."""

_LONGEST_SEARCH = 3600


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time, and how it passes."""

    def now(self) -> datetime.datetime:
        """The time in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        time.sleep(seconds)


CLOCK = Clock()


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A recurring run.

    Attributes:
        state: "enabled", "paused", or "replaced" while a run of it is under way.
        cron: the expression, or None where something else than optduel made a periodic one.
        version: name of the pipeline version that it runs, or None where that version is gone.
    """

    identifier: str
    name: str
    state: str
    cron: str | None
    version: str | None
    description: str


def create_schedule(
    connection: Connection, submission: Submission, name: str, cron: Cron, replace: bool, enabled: bool = True
) -> Schedule:
    """Creates a recurring run of the submission's version.

    A replacement is created paused, and takes over between two times of the schedules, so that each time has
    one run. That may take a minute.

    Args:
        name: of the recurring run.
        cron: when it starts runs.
        replace: what has the name is paused then, and deleted as soon as no run of it is under way.
        enabled: whether it starts runs; `resume` enables it later.

    Raises:
        ExperimentError: the name is taken, and `replace` is not set; another one took it at the same moment;
            the times are too close to one another for a replacement.
        ClusterError: the server does not answer, is too old, or refuses.
    """
    connection.open()
    before = _named(connection, name)
    if before and not replace:
        raise ExperimentError(_taken(name))
    running = [one for one in before if one.status == "ENABLED"]
    moment = quiet_moment([cron, *_crons(running)], CLOCK.now()) if running else None
    placed = place(connection, submission)
    # Else it would at once make up for a time that passes until it is enabled.
    start = moment + datetime.timedelta(seconds=BEFORE_TICK_SECONDS) if moment else None
    body = submission.schedule_body(
        name, cron.text, enabled and not running, start, *dataclasses.astuple(placed)
    )
    made = connection.call(
        "create a recurring run", _SERVICE, "recurring_run_service_create_recurring_run", recurring_run=body
    )
    old = {one.recurring_run_id for one in before}
    rivals = [one for one in _named(connection, name) if one.recurring_run_id not in old]
    first = min(rivals, key=lambda one: (str(one.created_at), one.recurring_run_id), default=made)
    if first.recurring_run_id != made.recurring_run_id:
        _delete(connection, made.recurring_run_id)
        raise ExperimentError(_taken(name))
    if moment:
        _wait_until(moment)
        for one in running:
            _switch(connection, one.recurring_run_id, enabled=False)
        if enabled:
            _switch(connection, made.recurring_run_id, enabled=True)
    _delete_idle(connection, before)
    state = "enabled" if enabled else "paused"
    identifier, version = made.recurring_run_id, submission.version
    return Schedule(identifier, name, state, cron.text, version, submission.description)


def quiet_moment(crons: Sequence[Cron], now: datetime.datetime) -> datetime.datetime:
    """The first moment from now on at which no expression has just started a run or is about to.

    Hours and days are not looked at: they are those of the server's time zone.

    Raises:
        ExperimentError: there is none within an hour.
    """
    hourly = [dataclasses.replace(cron, fields=(*cron.fields[:2], *_ANY_TIME)) for cron in crons]
    quiet = datetime.timedelta(seconds=AFTER_TICK_SECONDS + BEFORE_TICK_SECONDS)
    moment = now
    while moment - now < datetime.timedelta(seconds=_LONGEST_SEARCH):
        since = moment - datetime.timedelta(seconds=AFTER_TICK_SECONDS)
        ticks = [tick for cron in hourly if (tick := cron.following(since)) and tick <= since + quiet]
        if not ticks:
            return moment
        moment = max(ticks) + datetime.timedelta(seconds=AFTER_TICK_SECONDS)
    told = ", ".join(cron.text for cron in crons)
    raise ExperimentError(
        f"--cron: {told}: start a run too often for one to be replaced by the other between two runs; pause "
        "the schedule, wait for its run, delete it, and create the new one"
    )


def list_schedules(connection: Connection) -> list[Schedule]:
    """The recurring runs of optduel's pipelines, by name.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    ours = {
        one.pipeline_id
        for one in connection.pages(
            "list pipelines",
            "pipelines",
            "pipeline_service_list_pipelines",
            "pipelines",
            **connection.scope(),
        )
        if one.display_name.startswith("optduel-")
    }
    listed = connection.pages("list recurring runs", _SERVICE, _LIST, "recurring_runs", **connection.scope())
    mine = [one for one in listed if _pipeline_id(one) in ours]
    versions = {_version_id(one): _version_name(connection, one) for one in mine}
    newest = {one.display_name: one for one in sorted(mine, key=_age)}
    found = [_schedule(one, versions, one is newest[one.display_name]) for one in mine]
    return sorted(found, key=lambda schedule: schedule.name)


def switch_schedule(connection: Connection, name: str, enabled: bool) -> None:
    """Pauses a recurring run, or resumes it; runs that were missed meanwhile stay missed.

    Raises:
        ExperimentError: there is none, or several have the name.
        ClusterError: the server does not answer, or refuses.
    """
    _switch(connection, _only(connection, name).recurring_run_id, enabled)


def delete_schedule(connection: Connection, name: str) -> None:
    """Deletes a recurring run, and what it has replaced, with the Workflows of their runs.

    It is paused between two of its times, which may take a minute.

    Raises:
        ExperimentError: there is none, or several have the name; or a run of it is under way, which would end
            with it: it is paused then.
        ClusterError: the server does not answer, or refuses.
    """
    one = _only(connection, name)
    if one.status == "ENABLED":
        _wait_until(quiet_moment(_crons([one]), CLOCK.now()))
        _switch(connection, one.recurring_run_id, enabled=False)
    if active := _delete_idle(connection, _named(connection, name)):
        raise ExperimentError(
            f"schedule = {name}: its run {', '.join(active)} is under way and would end with it; the "
            "schedule is paused: delete it when the run has ended, or cancel the run"
        )


def _delete_idle(connection: Connection, schedules: Sequence[Any]) -> list[str]:
    """Deletes those that no run of is under way; returns the names of the runs that are."""
    active = []
    for one in schedules:
        page = connection.call(
            "list runs",
            "runs",
            "run_service_list_runs",
            filter=named(one.recurring_run_id, "recurring_run_id"),
            sort_by="created_at desc",
            page_size=100,
            **connection.scope(),
        )
        busy = [run.display_name for run in page.runs or () if state_of(run) not in FINAL]
        if not busy:
            _delete(connection, one.recurring_run_id)
        active += busy
    return active


def _wait_until(moment: datetime.datetime) -> None:
    seconds = (moment - CLOCK.now()).total_seconds()
    if seconds > 1:
        say(f"schedule: waits {seconds:.0f} s, to change it between two of its times")
    if seconds > 0:
        CLOCK.sleep(seconds)


def _switch(connection: Connection, identifier: str, enabled: bool) -> None:
    verb, done = ("enable", "resume") if enabled else ("disable", "pause")
    connection.call(
        f"{done} a recurring run",
        _SERVICE,
        f"recurring_run_service_{verb}_recurring_run",
        recurring_run_id=identifier,
    )


def _delete(connection: Connection, identifier: str) -> None:
    connection.call(
        "delete a recurring run",
        _SERVICE,
        "recurring_run_service_delete_recurring_run",
        none_for=(404,),  # somebody else was faster
        recurring_run_id=identifier,
    )


_ANY_TIME = (
    frozenset(range(24)),
    frozenset(range(1, 32)),
    frozenset(range(1, 13)),
    frozenset(range(7)),
)
"""Every hour of every day."""


def _crons(schedules: Sequence[Any]) -> list[Cron]:
    """The expressions of schedules; one that something else has made may have a period instead."""
    triggers = [one.trigger and one.trigger.cron_schedule for one in schedules]
    return [parse_cron(trigger.cron) for trigger in triggers if trigger]


def _age(one: Any) -> tuple[str, str]:
    return str(one.created_at), one.recurring_run_id


def _named(connection: Connection, name: str) -> list[Any]:
    listed = connection.pages(
        "list recurring runs", _SERVICE, _LIST, "recurring_runs", filter=named(name), **connection.scope()
    )
    return [one for one in listed if one.display_name == name]


def _only(connection: Connection, name: str) -> Any:
    """The schedule of a name, the newest; those that it has replaced are paused."""
    found = sorted(_named(connection, name), key=_age)
    if not found:
        raise ExperimentError(f"schedule = {name}: there is none; see `optduel schedule list`")
    *replaced, newest = found
    if any(one.status == "ENABLED" for one in replaced):
        raise ExperimentError(
            f"schedule = {name}: is the name of {len(found)}, which were not made by optduel; "
            "delete all but one on the page of Kubeflow Pipelines"
        )
    return newest


def _taken(name: str) -> str:
    return f"--name = {name}: a schedule of this name is there; give another name, or --replace"


def _schedule(one: Any, versions: Mapping[str | None, str | None], is_newest: bool) -> Schedule:
    trigger = one.trigger and one.trigger.cron_schedule
    state = "enabled" if one.status == "ENABLED" else "paused" if is_newest else "replaced"
    return Schedule(
        identifier=one.recurring_run_id,
        name=one.display_name,
        state=state,
        cron=trigger.cron if trigger else None,
        version=versions.get(_version_id(one)),
        description=one.description or "",
    )


def _pipeline_id(one: Any) -> str | None:
    reference = one.pipeline_version_reference
    return reference.pipeline_id if reference else None


def _version_id(one: Any) -> str | None:
    reference = one.pipeline_version_reference
    return reference.pipeline_version_id if reference else None


def _version_name(connection: Connection, one: Any) -> str | None:
    version = connection.call(
        "read a pipeline version",
        "pipelines",
        "pipeline_service_get_pipeline_version",
        none_for=(404,),
        pipeline_id=_pipeline_id(one),
        pipeline_version_id=_version_id(one),
    )
    return version.display_name if version else None

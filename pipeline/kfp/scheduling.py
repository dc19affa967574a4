"""Recurring runs on Kubeflow Pipelines: one experiment's version, started by a cron expression.

A recurring run is pinned to its version. KFP cannot change one: it is replaced. Keeping names apart is our
affair: KFP tells recurring runs apart by identifiers only. The Workflows of its runs belong to a recurring
run and are deleted with it, also one that is under way; so a recurring run is only deleted when none is.
Until then it stays, paused, beside the one that has replaced it.
"""

import dataclasses
import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optduel.components.core import ExperimentError
from optduel.components.workflows import FINAL
from optduel.pipeline.kfp import moments
from optduel.pipeline.kfp.connection import Connection, named
from optduel.pipeline.kfp.cron import Cron, parse_cron
from optduel.pipeline.kfp.following import state_of
from optduel.pipeline.kfp.moments import BEFORE_TICK_SECONDS, find_quiet_moment, quiet_moment, wait_until
from optduel.pipeline.kfp.submission import Submission, authored_of, place

_SERVICE = "recurring_runs"
_LIST = "recurring_run_service_list_recurring_runs"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A recurring run.

    Attributes:
        state: "enabled", "paused", or "replaced" while a run of it is under way.
        cron: the expression, or None where something else than optduel made a periodic one.
        version: name of the pipeline version that it runs, or None where that version is gone.
        authored: what that version was made of, as `authored_of` tells it.
    """

    identifier: str
    name: str
    state: str
    cron: str | None
    version: str | None
    authored: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Kept:
    """The recurring runs of one name.

    Attributes:
        current: the newest that is enabled, or else the newest.
        others: what it has replaced; or, after a replacement that was cut off, what should have replaced it.
        changing_until: somebody is replacing it right now, and has done so by then.
    """

    current: Any
    others: tuple[Any, ...]
    changing_until: datetime.datetime | None


def create_schedule(
    connection: Connection, submission: Submission, name: str, cron: Cron, replace: bool, enabled: bool = True
) -> Schedule:
    """Creates a recurring run of the submission's version.

    Args:
        name: of the recurring run.
        cron: when it starts runs.
        replace: what has the name is replaced, as `establish` does it.
        enabled: whether it starts runs; `resume` enables it later.

    Raises:
        ExperimentError: the name is taken, and `replace` is not set; another one took it at the same moment;
            the times are too close to one another for a replacement.
        ClusterError: the server does not answer, is too old, or refuses.
    """
    connection.open()
    before = named_schedules(connection, name)
    if before and not replace:
        raise ExperimentError(_taken(name))
    if before and (until := kept_of(before).changing_until):
        raise ExperimentError(
            f"--name = {name}: somebody is replacing it, until {until:%H:%M:%S} UTC; try again then"
        )
    made = establish(connection, submission, name, cron, before, enabled)
    if made is None:
        raise ExperimentError(_taken(name))
    state, identifier = "enabled" if enabled else "paused", made.recurring_run_id
    return Schedule(
        identifier, name, state, cron.text, submission.version, authored_of(submission.description)
    )


def establish(
    connection: Connection,
    submission: Submission,
    name: str,
    cron: Cron,
    before: Sequence[Any],
    enabled: bool,
) -> Any | None:
    """Creates a recurring run in place of those that have its name.

    A replacement is created paused, and takes over between two times of the schedules, so that each time has
    one run. That may take a minute. What has the name is paused then, and deleted as soon as no run of it is
    under way. Of several who do this at the same moment one succeeds; whoever is killed leaves one enabled,
    or none, and never two.

    Args:
        before: the recurring runs of the name.

    Returns:
        The new one; None where somebody else was first, and nothing was changed.

    Raises:
        ExperimentError: the times are too close to one another for a replacement.
        ClusterError: the server does not answer, or refuses.
    """
    old = {one.recurring_run_id for one in before}
    running = [one for one in before if one.status == "ENABLED"]
    moment = quiet_moment([cron, *_crons(running)], moments.CLOCK.now()) if running else moments.CLOCK.now()
    placed = place(connection, submission)
    if running:
        moment = quiet_moment([cron, *_crons(running)], moments.CLOCK.now())  # placing takes its time
    # No earlier time counts: else it would make up at once for one that passes until it is enabled, and of
    # several who create it at this moment more than one might start a run.
    start = moment + datetime.timedelta(seconds=BEFORE_TICK_SECONDS)
    body = submission.schedule_body(
        name, cron.text, enabled and not running, start, *dataclasses.astuple(placed)
    )
    made = connection.call(
        "create a recurring run", _SERVICE, "recurring_run_service_create_recurring_run", recurring_run=body
    )
    if not _is_first(connection, name, made, old):
        return None
    if running:
        wait_until(moment)
        if not _is_first(connection, name, made, old):
            return None
        for one in running:
            switch(connection, one, enabled=False)
        if enabled and not switch(connection, made, enabled=True):
            return None  # somebody took this for the rest of a replacement that was cut off
    new = [one for one in named_schedules(connection, name) if one.recurring_run_id not in old]
    for late in [one for one in new if one.status == "ENABLED"][1:]:
        # Whoever made it may have looked before this one was there.
        switch(connection, late, enabled=False)
        delete_idle(connection, [late])
        new.remove(late)
    if not any(one.recurring_run_id == made.recurring_run_id for one in new):
        return None
    delete_idle(connection, before)
    return made


def _is_first(connection: Connection, name: str, made: Any, old: Collection[str]) -> bool:
    """Whether nobody else's came before the one that was made; else that is deleted again."""
    new = [one for one in named_schedules(connection, name) if one.recurring_run_id not in old]
    mine = made.recurring_run_id
    has_lost = new[0].recurring_run_id != mine if new else False
    if has_lost or any(one.status == "ENABLED" and one.recurring_run_id != mine for one in new):
        _delete(connection, mine)
        return False
    return True


@dataclasses.dataclass(frozen=True)
class SchedulesFound:
    """All recurring runs.

    Attributes:
        kept: those of optduel's pipelines, by name.
        foreign: names of the others.
    """

    kept: Mapping[str, Kept]
    foreign: Collection[str]


def survey(connection: Connection) -> SchedulesFound:
    """Looks at all recurring runs.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    mine, others = _ours(connection)
    return SchedulesFound(_by_name(mine), {one.display_name for one in others})


def _by_name(schedules: Sequence[Any]) -> dict[str, Kept]:
    names = dict.fromkeys(one.display_name for one in schedules)
    return {name: kept_of([one for one in schedules if one.display_name == name]) for name in names}


def kept_of(schedules: Sequence[Any]) -> Kept:
    """Tells the current one of several of one name, at least one."""
    by_age = sorted(schedules, key=_age)
    enabled = [one for one in by_age if one.status == "ENABLED"]
    current = (enabled or by_age)[-1]
    starts = [_start_of(one) for one in by_age if one.status != "ENABLED"]
    until = max((start for start in starts if start and start > moments.CLOCK.now()), default=None)
    return Kept(current, tuple(one for one in by_age if one is not current), until)


def list_schedules(connection: Connection) -> list[Schedule]:
    """The recurring runs of optduel's pipelines, by name.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    mine, _ = _ours(connection)
    versions = {_version_id(one): _version(connection, one) for one in mine}
    currents = [kept.current for kept in _by_name(mine).values()]
    found = [_schedule(one, versions[_version_id(one)], one in currents) for one in mine]
    return sorted(found, key=lambda schedule: schedule.name)


def switch_schedule(connection: Connection, name: str, enabled: bool) -> None:
    """Pauses a recurring run, or resumes it: the last of the times that were missed has its run at once.

    Raises:
        ExperimentError: there is none.
        ClusterError: the server does not answer, or refuses.
    """
    kept = _only(connection, name)
    if enabled:
        switch(connection, kept.current, enabled=True)
    else:
        pause(connection, [kept.current, *kept.others])


def pause(connection: Connection, schedules: Sequence[Any]) -> bool:
    """Pauses those that are enabled: between two of their times, which may take a minute, if there is room.

    Soon after a time its run is lost, and so is the first one after a schedule is resumed (measured). Returns
    True.
    """
    running = [one for one in schedules if one.status == "ENABLED"]
    if moment := find_quiet_moment(_crons(running), moments.CLOCK.now()):
        wait_until(moment)
    for one in running:
        switch(connection, one, enabled=False)
    return True


def delete_schedule(connection: Connection, name: str) -> None:
    """Deletes a recurring run, and what it has replaced, with the Workflows of their runs.

    It is paused between two of its times, which may take a minute.

    Raises:
        ExperimentError: there is none; or a run of it is under way, which would end with it: it is paused
            then.
        ClusterError: the server does not answer, or refuses.
    """
    kept = _only(connection, name)
    schedules = [kept.current, *kept.others]
    pause(connection, schedules)
    # Before anything is deleted: what has replaced the one with a run would be lost, and resuming would bring
    # the replaced one back.
    if active := [run for one in schedules for run in active_runs(connection, one)]:
        raise ExperimentError(
            f"schedule = {name}: its run {', '.join(active)} is under way and would end with it; the "
            "schedule is paused: delete it when the run has ended, or cancel the run"
        )
    delete_idle(connection, schedules)


def delete_idle(connection: Connection, schedules: Sequence[Any]) -> list[str]:
    """Deletes those that no run of is under way; returns the names of the runs that are."""
    active = []
    for one in schedules:
        busy = active_runs(connection, one)
        if not busy:
            _delete(connection, one.recurring_run_id)
        active += busy
    return active


def active_runs(connection: Connection, schedule: Any) -> list[str]:
    """Names of the runs of a recurring run that are under way."""
    return [run.display_name for run in latest_of(connection, schedule) if state_of(run) not in FINAL]


def latest_of(connection: Connection, schedule: Any) -> list[Any]:
    """The latest runs of a recurring run, the newest first."""
    page = connection.call(
        "list runs",
        "runs",
        "run_service_list_runs",
        filter=named(schedule.recurring_run_id, "recurring_run_id"),
        sort_by="created_at desc",
        page_size=100,
        **connection.scope(),
    )
    return list(page.runs or ())


def switch(connection: Connection, schedule: Any, enabled: bool) -> bool:
    """Enables a recurring run, or disables it, at once; False where it is not there any more."""
    verb, done = ("enable", "resume") if enabled else ("disable", "pause")
    answer = connection.call(
        f"{done} a recurring run",
        _SERVICE,
        f"recurring_run_service_{verb}_recurring_run",
        none_for=(404,),
        recurring_run_id=schedule.recurring_run_id,
    )
    return answer is not None


def _delete(connection: Connection, identifier: str) -> None:
    connection.call(
        "delete a recurring run",
        _SERVICE,
        "recurring_run_service_delete_recurring_run",
        none_for=(404,),  # somebody else was faster
        recurring_run_id=identifier,
    )


def _crons(schedules: Sequence[Any]) -> list[Cron]:
    """The expressions of schedules; one that something else has made may have a period instead."""
    triggers = [one.trigger and one.trigger.cron_schedule for one in schedules]
    return [parse_cron(trigger.cron) for trigger in triggers if trigger]


def _age(one: Any) -> tuple[str, str]:
    return str(one.created_at), one.recurring_run_id


def named_schedules(connection: Connection, name: str) -> list[Any]:
    """The recurring runs of a name, the oldest first."""
    listed = connection.pages(
        "list recurring runs", _SERVICE, _LIST, "recurring_runs", filter=named(name), **connection.scope()
    )
    return sorted((one for one in listed if one.display_name == name), key=_age)


def _ours(connection: Connection) -> tuple[list[Any], list[Any]]:
    """The recurring runs of optduel's pipelines, and all others."""
    # Before the pipelines: another command may make both meanwhile, the pipeline first.
    listed = [
        *connection.pages("list recurring runs", _SERVICE, _LIST, "recurring_runs", **connection.scope())
    ]
    pipelines = connection.pages(
        "list pipelines", "pipelines", "pipeline_service_list_pipelines", "pipelines", **connection.scope()
    )
    ours = {one.pipeline_id for one in pipelines if one.display_name.startswith("optduel-")}
    mine = [one for one in listed if _pipeline_id(one) in ours]
    return mine, [one for one in listed if _pipeline_id(one) not in ours]


def _only(connection: Connection, name: str) -> Kept:
    found = named_schedules(connection, name)
    if not found:
        raise ExperimentError(f"schedule = {name}: there is none; see `optduel schedule list`")
    return kept_of(found)


def _taken(name: str) -> str:
    return f"--name = {name}: a schedule of this name is there; give another name, or --replace"


def _schedule(one: Any, version: Any, is_current: bool) -> Schedule:
    trigger = one.trigger and one.trigger.cron_schedule
    return Schedule(
        identifier=one.recurring_run_id,
        name=one.display_name,
        state="enabled" if one.status == "ENABLED" else "paused" if is_current else "replaced",
        cron=trigger.cron if trigger else None,
        version=version.display_name if version else None,
        authored=authored_of(version.description or "") if version else None,
    )


def _pipeline_id(one: Any) -> str | None:
    reference = one.pipeline_version_reference
    return reference.pipeline_id if reference else None


def _start_of(one: Any) -> datetime.datetime | None:
    """Before which it starts no run."""
    trigger = one.trigger and one.trigger.cron_schedule
    return trigger.start_time if trigger else None


def _version_id(one: Any) -> str | None:
    reference = one.pipeline_version_reference
    return reference.pipeline_version_id if reference else None


def version_name(connection: Connection, one: Any) -> str | None:
    """The pipeline version that a recurring run is pinned to; None where it is not, or that is gone."""
    version = _version(connection, one)
    return version.display_name if version else None


def _version(connection: Connection, one: Any) -> Any | None:
    if _version_id(one) is None:
        return None
    return connection.call(
        "read a pipeline version",
        "pipelines",
        "pipeline_service_get_pipeline_version",
        none_for=(404,),
        pipeline_id=_pipeline_id(one),
        pipeline_version_id=_version_id(one),
    )

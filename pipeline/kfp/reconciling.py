"""Makes the recurring runs of Kubeflow Pipelines what a file says that they are, and says what differs.

Kubeflow Pipelines cannot change a recurring run but for pausing it. So one that differs is replaced, as
`scheduling.establish` does it: no time gets two runs, and no run under way ends. Every step leaves a state
that the next `apply` can go on from, whoever was killed or was faster.
"""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optduel.components.core import ClusterError, ExperimentError, say
from optduel.pipeline.kfp import moments
from optduel.pipeline.kfp.connection import Connection
from optduel.pipeline.kfp.cron import Cron
from optduel.pipeline.kfp.scheduling import (
    SchedulesFound,
    active_runs,
    delete_idle,
    establish,
    pause,
    survey,
    switch,
    version_name,
)
from optduel.pipeline.kfp.submission import Submission

_ROUNDS = 5
"""So often another one's change is waited for."""

_AFTER_ANOTHER = datetime.timedelta(seconds=3)

Kind = Literal["create", "replace", "resume", "pause", "tidy", "delete", "keep", "unnamed", "wait"]

CHANGING: frozenset[Kind] = frozenset({"create", "replace", "resume", "pause", "tidy", "delete"})
"""What `apply` does something for."""


@dataclass(frozen=True)
class Wanted:
    """A schedule as it should be."""

    name: str
    submission: Submission
    cron: Cron
    enabled: bool


@dataclass(frozen=True)
class Change:
    """What is to be done about a name.

    Attributes:
        kind: "tidy" deletes what was replaced; "unnamed" is not in the file, and stays; "wait" for a run, or
            for somebody else, before the rest can be done.
        reasons: what differs, for a person.
    """

    name: str
    kind: Kind
    reasons: tuple[str, ...] = ()


def plan(connection: Connection, wanted: Sequence[Wanted], prune: bool) -> list[Change]:
    """What `apply` would do, by name; changes nothing.

    Args:
        prune: whether to delete optduel's schedules that are not wanted.

    Raises:
        ExperimentError: a name is that of a recurring run of something else.
        ClusterError: the server does not answer, is too old, or refuses.
    """
    connection.open()
    found = survey(connection)
    names = {one.name: one for one in wanted}
    all_names = {*names, *found.kept}
    steps = [_step(connection, name, names.get(name), found, prune) for name in all_names]
    return sorted((step.change for step in steps), key=lambda change: change.name)


def apply(connection: Connection, wanted: Sequence[Wanted], prune: bool) -> Iterator[Change]:
    """Makes it so, name by name; yields what was done.

    Raises:
        ExperimentError: as `plan`; or a schedule starts runs too often to be replaced.
        ClusterError: the server does not answer, or refuses; or others keep changing the same schedule. What
            has been yielded is done, and the next `apply` goes on.
    """
    names = {one.name: one for one in wanted}
    for planned in plan(connection, wanted, prune):
        name = planned.name
        for _ in range(_ROUNDS):
            found = survey(connection)
            kept = found.kept.get(name)
            if kept is not None and kept.changing_until is not None:
                until = kept.changing_until + _AFTER_ANOTHER
                say(f"schedule {name}: somebody else is replacing it; waits until {until:%H:%M:%S} UTC")
                moments.CLOCK.sleep((until - moments.CLOCK.now()).total_seconds())
                continue
            step = _step(connection, name, names.get(name), found, prune)
            if step.take():
                break
        else:
            raise ClusterError(
                f"schedule {name}: others keep changing it; let one `optduel schedule apply` run at a time"
            )
        yield step.change


@dataclass(frozen=True)
class _Step:
    """A change, and what makes it: False where somebody else was first."""

    change: Change
    take: Callable[[], bool] = lambda: True


def _step(
    connection: Connection, name: str, wanted: Wanted | None, found: SchedulesFound, prune: bool
) -> _Step:
    kept = found.kept.get(name)
    before = [kept.current, *kept.others] if kept else []
    if wanted is None:
        if not prune:
            return _Step(Change(name, "unnamed", ("is not in the file; --prune deletes it",)))
        return _removal(connection, name, before)

    def make() -> bool:
        made = establish(connection, wanted.submission, name, wanted.cron, before, wanted.enabled)
        return made is not None

    if kept is None:
        if name in found.foreign:
            raise ExperimentError(
                f"schedules.{name}.name: a recurring run of another pipeline has this name; take another"
            )
        return _Step(Change(name, "create", (wanted.cron.text, wanted.submission.version)), make)
    if kept.changing_until:
        return _Step(Change(name, "wait", ("somebody is replacing it right now",)))
    if differing := [*_differences(connection, wanted, kept.current)]:
        return _Step(Change(name, "replace", tuple(differing)), make)
    is_enabled = kept.current.status == "ENABLED"
    if is_enabled and not wanted.enabled:
        return _Step(Change(name, "pause", ("is enabled",)), lambda: pause(connection, before))
    if twins := [one for one in kept.others if one.status == "ENABLED"]:
        reason = "what it has replaced is enabled, too"
        return _Step(Change(name, "pause", (reason,)), lambda: pause(connection, twins))
    if wanted.enabled and not is_enabled:
        reason = "was paused; the last time that it has missed has its run at once"
        return _Step(
            Change(name, "resume", (reason,)), lambda: switch(connection, kept.current, enabled=True)
        )
    return _tidying(connection, name, kept.others) if kept.others else _Step(Change(name, "keep"))


def _removal(connection: Connection, name: str, schedules: Sequence[Any]) -> _Step:
    busy = [run for one in schedules for run in active_runs(connection, one)]
    if busy and all(one.status != "ENABLED" for one in schedules):
        return _Step(Change(name, "wait", (_until_its_end(busy),)))

    def remove() -> bool:
        pause(connection, schedules)
        delete_idle(connection, schedules)
        return True

    return _Step(Change(name, "delete", ("is not in the file",)), remove)


def _tidying(connection: Connection, name: str, others: Sequence[Any]) -> _Step:
    busy = [active_runs(connection, one) for one in others]
    if all(busy):
        return _Step(Change(name, "wait", (_until_its_end([run for runs in busy for run in runs]),)))

    def tidy() -> bool:
        delete_idle(connection, others)
        return True

    return _Step(Change(name, "tidy", ("what it has replaced can be deleted",)), tidy)


def _until_its_end(busy: Sequence[str]) -> str:
    return f"{', '.join(busy)} is under way: what started it is paused, and is deleted by a later apply"


def _differences(connection: Connection, wanted: Wanted, current: Any) -> Iterator[str]:
    """Where a recurring run is not what it should be; whether it is paused is no difference."""
    submission = wanted.submission
    version = version_name(connection, current)
    if version != submission.version:
        yield f"version: {version or 'the newest, or one that is gone'} -> {submission.version}"
    trigger = current.trigger and current.trigger.cron_schedule
    cron = trigger.cron if trigger else "a period"
    if cron != wanted.cron.text:
        yield f"cron: {cron} -> {wanted.cron.text}"
    if trigger and trigger.end_time:
        yield f"end_time: {trigger.end_time} -> none"
    config = current.runtime_config
    given: Mapping[str, Any] = (config and config.parameters) or {}
    for name in sorted({*given, *submission.parameters}):
        if given.get(name) != submission.parameters.get(name):
            yield f"{name}: {given.get(name)} -> {submission.parameters.get(name)}"
    root = config.pipeline_root if config else None
    if root != submission.pipeline_root:
        yield f"pipeline_root: {root} -> {submission.pipeline_root}"
    if str(current.max_concurrency) != "1":
        yield f"max_concurrency: {current.max_concurrency} -> 1"
    if not current.no_catchup:
        yield "no_catchup: false -> true"

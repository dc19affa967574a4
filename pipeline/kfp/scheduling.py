"""Recurring runs on Kubeflow Pipelines: one experiment's version, started by a cron expression.

A recurring run is pinned to its version. KFP cannot change one: it is replaced. Keeping names apart is our
affair: KFP tells recurring runs apart by identifiers only.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from optduel.components.core import ExperimentError
from optduel.pipeline.kfp.connection import Connection, named
from optduel.pipeline.kfp.cron import Cron
from optduel.pipeline.kfp.submission import Submission, place

_SERVICE = "recurring_runs"
_LIST = "recurring_run_service_list_recurring_runs"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A recurring run.

    Attributes:
        cron: the expression, or None where something else than optduel made a periodic one.
        version: name of the pipeline version that it runs, or None where that version is gone.
    """

    identifier: str
    name: str
    enabled: bool
    cron: str | None
    version: str | None
    description: str


def create_schedule(
    connection: Connection, submission: Submission, name: str, cron: Cron, replace: bool, enabled: bool = True
) -> Schedule:
    """Creates a recurring run of the submission's version.

    Args:
        name: of the recurring run.
        cron: when it starts runs.
        replace: what has the name is removed once the new one is there.
        enabled: whether it starts at once; `resume` enables it later.

    Raises:
        ExperimentError: the name is taken, and `replace` is not set; another one took it at the same moment.
        ClusterError: the server does not answer, is too old, or refuses.
    """
    connection.open()
    before = _named(connection, name)
    if before and not replace:
        raise ExperimentError(_taken(name))
    placed = place(connection, submission)
    body = submission.schedule_body(name, cron.text, enabled, *dataclasses.astuple(placed))
    made = connection.call(
        "create a recurring run", _SERVICE, "recurring_run_service_create_recurring_run", recurring_run=body
    )
    old = {one.recurring_run_id for one in before}
    rivals = [one for one in _named(connection, name) if one.recurring_run_id not in old]
    first = min(rivals, key=lambda one: (str(one.created_at), one.recurring_run_id), default=made)
    if first.recurring_run_id != made.recurring_run_id:
        _delete(connection, made.recurring_run_id)
        raise ExperimentError(_taken(name))
    for identifier in old:
        _delete(connection, identifier)
    return Schedule(
        made.recurring_run_id, name, enabled, cron.text, submission.version, submission.description
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
    found = [_schedule(one, versions) for one in mine]
    return sorted(found, key=lambda schedule: schedule.name)


def switch_schedule(connection: Connection, name: str, enabled: bool) -> None:
    """Pauses a recurring run, or resumes it; runs that were missed meanwhile stay missed.

    Raises:
        ExperimentError: there is none, or several have the name.
        ClusterError: the server does not answer, or refuses.
    """
    verb, done = ("enable", "resume") if enabled else ("disable", "pause")
    connection.call(
        f"{done} a recurring run",
        _SERVICE,
        f"recurring_run_service_{verb}_recurring_run",
        recurring_run_id=_only(connection, name).recurring_run_id,
    )


def delete_schedule(connection: Connection, name: str) -> None:
    """Deletes a recurring run; the runs that it has started stay.

    Raises:
        ExperimentError: there is none, or several have the name.
        ClusterError: the server does not answer, or refuses.
    """
    _delete(connection, _only(connection, name).recurring_run_id)


def _delete(connection: Connection, identifier: str) -> None:
    connection.call(
        "delete a recurring run",
        _SERVICE,
        "recurring_run_service_delete_recurring_run",
        none_for=404,  # somebody else was faster
        recurring_run_id=identifier,
    )


def _named(connection: Connection, name: str) -> list[Any]:
    listed = connection.pages(
        "list recurring runs", _SERVICE, _LIST, "recurring_runs", filter=named(name), **connection.scope()
    )
    return [one for one in listed if one.display_name == name]


def _only(connection: Connection, name: str) -> Any:
    found = _named(connection, name)
    if not found:
        raise ExperimentError(f"schedule = {name}: there is none; see `optduel schedule list`")
    if len(found) > 1:
        raise ExperimentError(
            f"schedule = {name}: is the name of {len(found)}, which were not made by optduel; "
            "delete all but one on the page of Kubeflow Pipelines"
        )
    return found[0]


def _taken(name: str) -> str:
    return f"--name = {name}: a schedule of this name is there; give another name, or --replace"


def _schedule(one: Any, versions: Mapping[str | None, str | None]) -> Schedule:
    trigger = one.trigger and one.trigger.cron_schedule
    return Schedule(
        identifier=one.recurring_run_id,
        name=one.display_name,
        enabled=one.status == "ENABLED",
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
        none_for=404,
        pipeline_id=_pipeline_id(one),
        pipeline_version_id=_version_id(one),
    )
    return version.display_name if version else None

"""Recurring runs, as the scheduled-workflow controller was seen to start them."""

import datetime
import functools
import uuid
from typing import TYPE_CHECKING

from optduel.pipeline.kfp.cron import Cron, parse_cron
from tests.cluster.kfp_requests import ApiError, Object, check_description

if TYPE_CHECKING:
    from tests.cluster.kfp_server import KfpServer

LATE_SECONDS = 30
"""From a tick to its run, 0 to 40 in truth; a schedule that is disabled meanwhile starts none."""

UNSETTLED_SECONDS = 20
"""Disabled so soon after a tick, a schedule loses its first tick after it is enabled again."""


class RecurringRuns:
    """All of a server; time passes when `pass_time` is called."""

    def __init__(self, server: "KfpServer") -> None:
        self.server = server
        self.kept: dict[str, Object] = {}
        self.time = datetime.datetime(2026, 11, 28, 14, 0, 45, tzinfo=datetime.UTC)
        self.started: list[tuple[str, datetime.datetime]] = []
        self._done: dict[str, datetime.datetime] = {}
        self._loses: set[str] = set()

    def now(self) -> datetime.datetime:
        return self.time

    def pass_time(self, seconds: float) -> None:
        end = self.time + datetime.timedelta(seconds=seconds)
        while due := [one for one in map(self._due, self.kept) if one and one[0] <= end]:
            when, identifier, tick = min(due)
            self.time = max(self.time, when)
            self._start(identifier, tick)
        self.time = end
        for one in self.kept.values():
            one["updated_at"] = end.isoformat()  # whenever the persistence agent reports a schedule

    def create(self, body: Object) -> Object:
        if not body["trigger"]["cron_schedule"]["cron"]:
            raise ApiError(400, 3, "Invalid input error: no trigger")
        check_description(body)
        made = {"recurring_run_id": str(uuid.uuid4()), "created_at": self.server.now(), **body}
        made["status"] = "ENABLED" if body["mode"] == "ENABLE" else "DISABLED"
        start = body["trigger"]["cron_schedule"].get("start_time")
        identifier = made["recurring_run_id"]
        self._done[identifier] = datetime.datetime.fromisoformat(start) if start else self.time
        self.kept[identifier] = made
        return made

    def switch(self, identifier: str, enabled: bool) -> Object:
        one = self.kept[identifier]
        was = one["status"]
        one |= {"mode": "ENABLE" if enabled else "DISABLE", "status": "ENABLED" if enabled else "DISABLED"}
        if was == "ENABLED" and not enabled:
            soon = self.time - datetime.timedelta(seconds=UNSETTLED_SECONDS)
            last = self._last_tick(one, soon)
            if last is not None:
                self._loses.add(identifier)
        elif was == "DISABLED" and enabled:
            # Whatever was missed is left out, but for the last one.
            last = self._last_tick(one, self._done[identifier])
            if last is not None:
                self._start(identifier, last)
        return {}

    def delete(self, identifier: str) -> Object:
        """Its Workflows are collected with it; its runs are told nothing."""
        del self.kept[identifier]
        for run in self.server.runs.values():
            if run.get("recurring_run_id") == identifier:
                self.server.workflows.pop(run["run_id"], None)
        return {}

    def runs_of(self, identifier: str) -> list[Object]:
        return [one for one in self.server.runs.values() if one.get("recurring_run_id") == identifier]

    def _due(self, identifier: str) -> tuple[datetime.datetime, str, datetime.datetime] | None:
        """When it starts its next run, and for which tick."""
        one = self.kept[identifier]
        if one["status"] != "ENABLED":
            return None
        tick = _cron(one).following(self._done[identifier])
        return (tick + datetime.timedelta(seconds=LATE_SECONDS), identifier, tick) if tick else None

    def _start(self, identifier: str, tick: datetime.datetime) -> None:
        self._done[identifier] = tick
        if identifier in self._loses:
            self._loses.remove(identifier)
            return
        one = self.kept[identifier]
        ended = ("SUCCEEDED", "FAILED")
        active = [run for run in self.runs_of(identifier) if run.get("state") not in ended]
        if len(active) >= int(one["max_concurrency"]):
            return
        copied = ("experiment_id", "pipeline_version_reference", "runtime_config")
        name = f"{one['display_name']}-{len(self.started) + 1}"
        run = {key: one[key] for key in copied} | {"display_name": name, "recurring_run_id": identifier}
        run["scheduled_at"] = tick.isoformat()
        self.server.create_run(run)
        self.started.append((identifier, tick))

    def _last_tick(self, one: Object, after: datetime.datetime) -> datetime.datetime | None:
        last, cron = None, _cron(one)
        while (tick := cron.following(last or after)) is not None and tick <= self.time:
            last = tick
        return last


def _cron(one: Object) -> Cron:
    return _parsed(one["trigger"]["cron_schedule"]["cron"])


_parsed = functools.cache(parse_cron)

"""Schedules become what a file says, from any state, whoever is killed or faster; no time has two runs."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.kfp import moments
from optduel.pipeline.kfp.connection import Access, Connection
from optduel.pipeline.kfp.cron import parse_cron
from optduel.pipeline.kfp.reconciling import CHANGING, Change, Wanted, apply, plan
from optduel.pipeline.kfp.submission import Submission, prepare
from tests.cluster.kfp_server import KfpServer
from tests.cluster.server_clock import ServerClock

NAME = "weekly"
OFTEN = "0 */5 * * * *"


class Killed(BaseException):
    """The process that applies was killed."""


@cache
def submission(number: int = 1) -> Submission:
    """As of image `number`; compiled once."""
    if number > 1:
        first = submission()
        parameters = {**first.parameters, "image": f"i:{number}"}
        return dataclasses.replace(first, version=f"{first.version}-{number}", parameters=parameters)
    return prepare(load_experiment("digits", ["study.seeds=[0]"]), load_deployment("pod", ["image=i:1"]))


def wanted(number: int = 1, cron: str = OFTEN, enabled: bool = True, name: str = NAME) -> Wanted:
    return Wanted(name, submission(number), parse_cron(cron), enabled)


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    with KfpServer() as server:
        monkeypatch.setattr(moments, "CLOCK", ServerClock(server))
        yield server


def made(kfp: KfpServer, *schedules: Wanted, prune: bool = False) -> dict[str, str]:
    """Applies; returns the kinds of changes."""
    return {one.name: one.kind for one in apply(Connection(Access(host=kfp.url)), schedules, prune)}


def planned(kfp: KfpServer, *schedules: Wanted, prune: bool = False) -> list[Change]:
    return plan(Connection(Access(host=kfp.url)), schedules, prune)


def only(kfp: KfpServer) -> dict[str, Any]:
    (one,) = kfp.recurring_runs.values()
    return one


def posts(kfp: KfpServer) -> int:
    return sum(one.method != "GET" for one in kfp.requests)


def settled(kfp: KfpServer, *schedules: Wanted) -> None:
    """Nothing is left to do, and doing it sends nothing that changes."""
    assert [one.kind for one in planned(kfp, *schedules) if one.kind in CHANGING] == []
    before = posts(kfp)
    made(kfp, *schedules)
    assert posts(kfp) == before


def test_what_is_missing_is_created_and_the_same_file_changes_nothing(kfp: KfpServer) -> None:
    both = (wanted(), wanted(2, "0 0 6 * * 1", enabled=False, name="nightly"))
    assert [(one.name, one.kind) for one in planned(kfp, *both)] == [
        ("nightly", "create"),
        ("weekly", "create"),
    ]
    assert posts(kfp) == 0, "a plan changes nothing"
    assert made(kfp, *both) == {"nightly": "create", "weekly": "create"}
    found = {
        one["display_name"]: (one["status"], one["runtime_config"]) for one in kfp.recurring_runs.values()
    }
    assert {name: status for name, (status, _) in found.items()} == {
        "weekly": "ENABLED",
        "nightly": "DISABLED",
    }
    assert found["nightly"][1]["parameters"]["image"] == "i:2"
    kfp.recurring.pass_time(20)
    settled(kfp, *both)


def trigger(kfp: KfpServer, **fields: str) -> None:
    only(kfp)["trigger"]["cron_schedule"].update(fields)


def period(kfp: KfpServer) -> None:
    kfp.recurring.switch(only(kfp)["recurring_run_id"], False)
    only(kfp)["trigger"] = {"periodic_schedule": {"interval_second": "60"}}


DRIFT: dict[str, tuple[Callable[[KfpServer], Any], str, str]] = {
    "paused by hand": (
        lambda kfp: kfp.recurring.switch(only(kfp)["recurring_run_id"], False),
        "resume",
        "was paused",
    ),
    "deleted by hand": (lambda kfp: kfp.recurring.delete(only(kfp)["recurring_run_id"]), "create", OFTEN),
    "another time": (lambda kfp: trigger(kfp, cron="@daily"), "replace", "cron: @daily -> "),
    "a period": (period, "replace", "cron: a period -> "),
    "an end": (lambda kfp: trigger(kfp, end_time="2027-01-01T00:00:00Z"), "replace", "end_time: "),
    "the newest version": (
        lambda kfp: only(kfp)["pipeline_version_reference"].pop("pipeline_version_id"),
        "replace",
        "version: the newest",
    ),
    "another root": (
        lambda kfp: only(kfp)["runtime_config"]["parameters"].update(root="s3://x/y"),
        "replace",
        "root: s3://x/y -> minio://",
    ),
    "artifacts elsewhere": (
        lambda kfp: only(kfp)["runtime_config"].pop("pipeline_root"),
        "replace",
        "pipeline_root: ",
    ),
    "many at once": (
        lambda kfp: only(kfp).update(max_concurrency="3"),
        "replace",
        "max_concurrency: 3 -> 1",
    ),
    "catching up": (lambda kfp: only(kfp).update(no_catchup=False), "replace", "no_catchup: false -> true"),
}


@pytest.mark.parametrize("drift", DRIFT)
def test_drift_is_found_and_mended(kfp: KfpServer, drift: str) -> None:
    change, kind, reason = DRIFT[drift]
    made(kfp, wanted())
    kfp.recurring.pass_time(60)
    change(kfp)
    (found,) = planned(kfp, wanted())
    assert (found.kind, found.reasons[0][: len(reason)]) == (kind, reason)
    assert made(kfp, wanted()) == {NAME: kind}
    kfp.recurring.pass_time(20)
    assert only(kfp)["status"] == "ENABLED"
    settled(kfp, wanted())


def test_another_version_or_state_in_the_file(kfp: KfpServer) -> None:
    made(kfp, wanted())
    kfp.recurring.pass_time(60)
    (change,) = planned(kfp, wanted(2))
    assert change.reasons == (
        f"version: {submission().version} -> {submission(2).version}",
        "image: i:1 -> i:2",
    )
    assert made(kfp, wanted(2)) == {NAME: "replace"}
    kfp.recurring.pass_time(20)
    assert made(kfp, wanted(2, enabled=False)) == {NAME: "pause"}
    assert only(kfp)["status"] == "DISABLED"
    settled(kfp, wanted(2, enabled=False))
    assert made(kfp, wanted(2)) == {NAME: "resume"}
    assert made(kfp, wanted(3, "@daily", enabled=False)) == {NAME: "replace"}
    assert (only(kfp)["status"], only(kfp)["trigger"]["cron_schedule"]["cron"]) == ("DISABLED", "@daily")


def test_prune_deletes_what_the_file_no_longer_names_but_nothing_of_others(kfp: KfpServer) -> None:
    made(kfp, wanted(), wanted(name="old"))
    foreign = {"display_name": "foreign", "mode": "ENABLE", "trigger": {"cron_schedule": {"cron": "@daily"}}}
    kfp.recurring.create(foreign)
    kfp.recurring.pass_time(60)
    assert made(kfp, wanted()) == {"old": "unnamed", NAME: "keep"}
    assert made(kfp, wanted(), prune=True) == {"old": "delete", NAME: "keep"}
    assert {one["display_name"] for one in kfp.recurring_runs.values()} == {NAME, "foreign"}
    with pytest.raises(Exception, match="foreign.name: a recurring run of another pipeline has this name"):
        planned(kfp, wanted(name="foreign"))


def with_a_run_under_way(kfp: KfpServer) -> dict[str, Any]:
    """The schedule of image 1, whose second run has begun a minute ago."""
    made(kfp, wanted())
    kfp.recurring.pass_time(300)
    (first,) = kfp.runs.values()
    kfp.change(first, "SUCCEEDED")
    kfp.recurring.pass_time(330)
    return list(kfp.runs.values())[-1]


def ends(kfp: KfpServer, run: dict[str, Any]) -> None:
    while kfp.look(run["run_id"]).get("state") != "SUCCEEDED":
        pass


def every_time_has_at_most_one_run(kfp: KfpServer) -> None:
    ticks = Counter(tick for _, tick in kfp.recurring.started)
    assert [tick for tick, count in ticks.items() if count > 1] == []


def settles_on(kfp: KfpServer, number: int, running: dict[str, Any]) -> None:
    """One schedule is left in the end, of this image; the run that was under way has ended well."""
    enabled = [one for one in kfp.recurring_runs.values() if one["status"] == "ENABLED"]
    assert [one["runtime_config"]["parameters"]["image"] for one in enabled] == [f"i:{number}"]
    ends(kfp, running)
    assert running["run_id"] in kfp.workflows, "its schedule took it along"
    kfp.recurring.pass_time(20)
    made(kfp, wanted(number))
    assert only(kfp)["status"] == "ENABLED"
    for _ in range(3):
        kfp.recurring.pass_time(300)
        for run in kfp.runs.values():
            kfp.change(run, "SUCCEEDED")
    every_time_has_at_most_one_run(kfp)
    settled(kfp, wanted(number))


def test_a_run_under_way_outlives_replacing_pruning_and_pausing(kfp: KfpServer) -> None:
    running = with_a_run_under_way(kfp)
    old = only(kfp)["recurring_run_id"]
    assert made(kfp, wanted(2)) == {NAME: "replace"}
    assert kfp.recurring_runs[old]["status"] == "DISABLED"
    kfp.recurring.pass_time(20)
    (change,) = planned(kfp, wanted(2))
    assert change.kind == "wait", "the rest can wait, and a check in CI stays quiet"
    assert running["display_name"] in change.reasons[0]
    settles_on(kfp, 2, running)


def test_a_time_that_passes_while_a_replacement_waits_has_one_run(kfp: KfpServer) -> None:
    made(kfp, wanted())
    kfp.recurring.pass_time(250)
    assert made(kfp, wanted(2)) == {NAME: "replace"}
    assert [f"{tick:%H:%M}" for _, tick in kfp.recurring.started] == ["14:05"]
    (run,) = kfp.runs.values()
    kfp.change(run, "SUCCEEDED")
    kfp.recurring.pass_time(300)
    assert [f"{tick:%H:%M}" for _, tick in kfp.recurring.started] == ["14:05", "14:10"]


def test_what_is_pruned_under_a_run_goes_when_that_has_ended(kfp: KfpServer) -> None:
    running = with_a_run_under_way(kfp)
    assert made(kfp, prune=True) == {NAME: "delete"}
    assert only(kfp)["status"] == "DISABLED"
    assert [one.kind for one in planned(kfp, prune=True)] == ["wait"]
    ends(kfp, running)
    assert made(kfp, prune=True) == {NAME: "delete"}
    assert kfp.recurring_runs == {}


REAL_SEND = Connection._send


@pytest.fixture
def at_request(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Does something before the n-th request from now on; once."""

    def plant(number: int, act: Callable[[], None]) -> None:
        count = 0

        def send(self: Connection, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                act()
            return REAL_SEND(self, *arguments)

        monkeypatch.setattr(Connection, "_send", send)

    return plant


def kill() -> None:
    raise Killed


CREATED, REQUESTS = 12, 18
"""Of the requests of a replacement, from its plan on: the one that creates the new schedule, and the last."""

some_requests = pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=[] if number in (CREATED, 14, 16, 17) else pytest.mark.exhaustive)
        for number in range(1, REQUESTS + 1)
    ],
)
"""Of `make test` the one after which the new schedule is there, and those after which it takes over."""


@some_requests
def test_an_apply_that_is_killed_at_any_request_is_completed_by_the_next(
    kfp: KfpServer, at_request: Callable[[int, Callable[[], None]], None], number: int
) -> None:
    running = with_a_run_under_way(kfp)
    at_request(number, kill)
    with pytest.raises(Killed):
        made(kfp, wanted(2))
    assert sum(one["status"] == "ENABLED" for one in kfp.recurring_runs.values()) <= 1
    made(kfp, wanted(2))
    settles_on(kfp, 2, running)


@some_requests
def test_of_two_applies_at_once_each_succeeds_and_one_schedule_is_enabled(
    kfp: KfpServer, at_request: Callable[[int, Callable[[], None]], None], number: int
) -> None:
    """Theirs begins and ends before the n-th request of ours."""
    running = with_a_run_under_way(kfp)
    theirs: list[dict[str, str]] = []
    at_request(number, lambda: theirs.append(made(kfp, wanted(3))))
    made(kfp, wanted(2))
    assert len(theirs) == 1
    (enabled,) = (one for one in kfp.recurring_runs.values() if one["status"] == "ENABLED")
    settles_on(kfp, int(enabled["runtime_config"]["parameters"]["image"][2:]), running)


def test_while_somebody_replaces_a_schedule_a_plan_says_so(
    kfp: KfpServer, at_request: Callable[[int, Callable[[], None]], None]
) -> None:
    made(kfp, wanted())
    kfp.recurring.pass_time(250)
    seen: list[Change] = []
    at_request(CREATED + 1, lambda: seen.extend(planned(kfp, wanted(2))))
    made(kfp, wanted(2))
    assert [(one.kind, one.reasons) for one in seen] == [("wait", ("somebody is replacing it right now",))]


@pytest.mark.parametrize(
    "number",
    [pytest.param(number, marks=[] if number == 11 else pytest.mark.exhaustive) for number in range(1, 15)],
)
def test_of_two_who_create_at_once_one_schedule_is_left(
    kfp: KfpServer, at_request: Callable[[int, Callable[[], None]], None], number: int
) -> None:
    theirs: list[dict[str, str]] = []
    at_request(number, lambda: theirs.append(made(kfp, wanted())))
    made(kfp, wanted())
    assert len(theirs) == 1
    assert only(kfp)["status"] == "ENABLED"
    kfp.recurring.pass_time(340)
    assert len(kfp.runs) == 1

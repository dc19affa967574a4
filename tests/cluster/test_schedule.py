"""Recurring runs by the command, through the real kfp.Client, against a server that keeps them."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import ExperimentError
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.kfp import moments
from optduel.pipeline.kfp.cron import parse_cron
from tests.cluster.kfp_requests import Request
from tests.cluster.kfp_server import KfpServer
from tests.cluster.server_clock import ServerClock

CREATE = ("create", "digits", "--cron", "0 0 6 * * 1", "--image", "i:1", "--set", "study.seeds=[0,1]")


OFTEN = ("--cron", "0 */5 * * * *")

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    with KfpServer() as server:
        monkeypatch.setattr(moments, "CLOCK", ServerClock(server))
        yield server


def schedule(kfp: KfpServer, *arguments: str) -> int:
    return main(["schedule", *arguments, "--host", kfp.url])


def only(kfp: KfpServer) -> dict[str, Any]:
    (one,) = kfp.recurring_runs.values()
    return one


def test_a_schedule_is_pinned_to_its_version_one_run_at_a_time_without_catching_up(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule(kfp, *CREATE) == 0
    made, (version,) = only(kfp), kfp.versions.values()
    assert made["pipeline_version_reference"] == {
        "pipeline_id": version["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    start = made["trigger"]["cron_schedule"]["start_time"]
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 6 * * 1", "start_time": start}}
    assert datetime.datetime.fromisoformat(start) > kfp.recurring.now()
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == ("1", True, "ENABLE")
    # What is compiled of it the server ignores.
    assert made["runtime_config"]["pipeline_root"] == "minio://mlpipeline/optduel/pipelines"
    assert made["runtime_config"]["parameters"]["root"] == "minio://mlpipeline/optduel"
    assert made["experiment_id"] in kfp.experiments
    out = capsys.readouterr().out
    assert f"schedule: optduel-digits\nversion: optduel-digits {version['name']}\n" in out
    assert out.count("T06:00:00+00:00") == 3


def test_a_schedule_can_begin_paused_under_a_name_of_its_own(kfp: KfpServer) -> None:
    assert schedule(kfp, *CREATE, "--name", "mondays", "--paused") == 0
    assert (only(kfp)["display_name"], only(kfp)["mode"]) == ("mondays", "DISABLE")


def test_pause_resume_and_delete(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    schedule(kfp, *CREATE)
    for command, status in (("pause", "DISABLED"), ("resume", "ENABLED")):
        assert schedule(kfp, command, "optduel-digits") == 0
        assert only(kfp)["status"] == status
    assert schedule(kfp, "delete", "optduel-digits", "--json") == 0
    assert kfp.recurring_runs == {}
    assert schedule(kfp, "pause", "optduel-digits") == 2
    assert "schedule = optduel-digits: there is none" in capsys.readouterr().err


def test_a_name_is_given_once_and_replaced_on_request(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule(kfp, *CREATE)
    assert schedule(kfp, *CREATE) == 2
    assert "--name = optduel-digits: a schedule of this name is there" in capsys.readouterr().err
    before = only(kfp)["recurring_run_id"]
    assert schedule(kfp, *CREATE, "--cron", "@daily", "--replace") == 0
    assert only(kfp)["recurring_run_id"] != before
    assert only(kfp)["trigger"]["cron_schedule"]["cron"] == "@daily"
    assert only(kfp)["status"] == "ENABLED"


def begin(kfp: KfpServer) -> dict[str, Any]:
    """A schedule of every five minutes whose second run has just begun."""
    assert schedule(kfp, *CREATE, *OFTEN) == 0
    kfp.recurring.pass_time(300)
    (first,) = kfp.runs.values()
    kfp.change(first, "SUCCEEDED")
    kfp.recurring.pass_time(290)
    assert len(kfp.runs) == 2
    return list(kfp.runs.values())[-1]


def end(kfp: KfpServer, run: dict[str, Any]) -> None:
    while kfp.look(run["run_id"]).get("state") != "SUCCEEDED":
        pass


def test_a_schedule_is_replaced_under_a_running_run_and_every_time_has_one_run(kfp: KfpServer) -> None:
    running = begin(kfp)
    old = running["recurring_run_id"]
    assert schedule(kfp, *CREATE, *OFTEN, "--image", "i:2", "--replace") == 0
    new = next(one for one in kfp.recurring_runs if one != old)
    assert {key: one["status"] for key, one in kfp.recurring_runs.items()} == {
        old: "DISABLED",
        new: "ENABLED",
    }
    end(kfp, running)  # its Workflow is there
    for _ in range(4):
        kfp.recurring.pass_time(300)
        for run in kfp.runs.values():
            kfp.change(run, "SUCCEEDED")
    ticks = [tick for _, tick in kfp.recurring.started]
    pause = datetime.timedelta(minutes=5)
    assert ticks == [ticks[0] + number * pause for number in range(len(ticks))]
    assert {which for which, _ in kfp.recurring.started[-4:]} == {new}
    # What was replaced goes with the next change.
    assert schedule(kfp, *CREATE, *OFTEN, "--image", "i:3", "--replace") == 0
    assert len(kfp.recurring_runs) == 1


def test_a_schedule_with_a_run_under_way_is_paused_not_deleted(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running = begin(kfp)
    assert schedule(kfp, "delete", "optduel-digits") == 2
    name = running["display_name"]
    assert (
        f"its run {name} is under way and would end with it; the schedule is paused"
        in capsys.readouterr().err
    )
    assert only(kfp)["status"] == "DISABLED"
    end(kfp, running)
    assert schedule(kfp, "delete", "optduel-digits") == 0
    assert kfp.recurring_runs == {}


def test_a_refused_deletion_keeps_what_has_replaced_the_one_with_a_run(kfp: KfpServer) -> None:
    running = begin(kfp)
    schedule(kfp, *CREATE, *OFTEN, "--image", "i:2", "--replace")
    old, new = running["recurring_run_id"], list(kfp.recurring_runs)[-1]
    assert schedule(kfp, "delete", "optduel-digits") == 2
    assert list(kfp.recurring_runs) == [old, new]
    assert schedule(kfp, "resume", "optduel-digits") == 0
    states = {key: one["status"] for key, one in kfp.recurring_runs.items()}
    assert states == {old: "DISABLED", new: "ENABLED"}


def test_what_was_replaced_is_listed_as_such_and_deleted_with_its_successor(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running = begin(kfp)
    schedule(kfp, *CREATE, *OFTEN, "--replace")
    capsys.readouterr()
    schedule(kfp, "list", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert sorted(one["state"] for one in listed) == ["enabled", "replaced"]
    assert schedule(kfp, "pause", "optduel-digits") == 0
    assert {one["status"] for one in kfp.recurring_runs.values()} == {"DISABLED"}
    end(kfp, running)
    assert schedule(kfp, "delete", "optduel-digits") == 0
    assert kfp.recurring_runs == {}


def test_a_schedule_of_every_few_seconds_cannot_be_replaced_between_its_times(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule(kfp, *CREATE, "--cron", "*/20 * * * * *")
    assert schedule(kfp, *CREATE, "--replace") == 2
    assert "start a run too often" in capsys.readouterr().err
    assert len(kfp.recurring_runs) == 1


@given(
    crons=st.lists(
        st.sampled_from(["0 * * * * *", "0 0 6 * * 1", "15 */7 * * * *", "0 30 * * * *", "@daily"]),
        min_size=1,
        max_size=3,
    ),
    seconds=st.integers(0, 7200),
)
def test_a_quiet_moment_is_far_enough_from_every_time(crons: list[str], seconds: int) -> None:
    parsed = [parse_cron(cron) for cron in crons]
    now = datetime.datetime(2026, 11, 30, 5, 20, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    try:
        moment = moments.quiet_moment(parsed, now)
    except ExperimentError:
        assert len(set(crons)) > 1, "each of them alone leaves time"
        return
    assert now <= moment
    since = moment - datetime.timedelta(seconds=moments.AFTER_TICK_SECONDS)
    until = moment + datetime.timedelta(seconds=moments.BEFORE_TICK_SECONDS)
    for cron in parsed:
        tick = cron.following(since)
        assert tick is None or tick > until


def test_a_replacement_that_fails_leaves_the_old_schedule(kfp: KfpServer) -> None:
    schedule(kfp, *CREATE)
    before = only(kfp)["recurring_run_id"]
    kfp.denied = ("POST /apis/v2beta1/recurringruns",)
    assert schedule(kfp, *CREATE, "--replace") == 2
    assert only(kfp)["recurring_run_id"] == before


def test_of_two_who_take_a_name_at_the_same_moment_one_gets_it(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def be_faster(request: Request) -> None:
        if request.method == "POST" and request.path.endswith("/recurringruns"):
            kfp.recurring.create(request.body)

    kfp.before = be_faster
    assert schedule(kfp, *CREATE) == 2
    assert "a schedule of this name is there" in capsys.readouterr().err
    assert len(kfp.recurring_runs) == 1


def test_list_shows_ours(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert schedule(kfp, "list") == 0
    assert capsys.readouterr().err == "there are no schedules yet\n"
    for name in ("b", "a", "c"):
        schedule(kfp, *CREATE, "--name", name)
    schedule(kfp, "pause", "b")
    cron = {"cron_schedule": {"cron": "@daily"}}
    kfp.recurring.create({"display_name": "somebody else's", "mode": "ENABLE", "trigger": cron})
    (version,) = kfp.versions.values()
    capsys.readouterr()
    assert schedule(kfp, "list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["state"]) for one in shown] == [
        ("a", "enabled"),
        ("b", "paused"),
        ("c", "enabled"),
    ]
    assert {(one["cron"], one["version"]) for one in shown} == {("0 0 6 * * 1", version["name"])}
    schedule(kfp, "list")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["schedule", "state", "cron", "version"]
    assert lines[2].split()[:2] == ["b", "paused"]


def test_a_dry_run_contacts_nobody_and_shows_what_would_be_sent(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule(kfp, *CREATE, "--dry-run", "--json") == 0
    assert kfp.requests == []
    planned = json.loads(capsys.readouterr().out)["requests"][-1]
    schedule(kfp, *CREATE)
    (sent,) = kfp.sent("POST", "/recurringruns")
    ids = sent.body["pipeline_version_reference"]
    del sent.body["trigger"]["cron_schedule"]["start_time"]  # a moment later
    text = json.dumps(planned["body"]).replace("<pipeline_id>", ids["pipeline_id"])
    text = text.replace("<pipeline_version_id>", ids["pipeline_version_id"])
    assert json.loads(text.replace("<experiment_id>", sent.body["experiment_id"])) == sent.body
    assert planned["path"] == sent.path


def test_a_crontabs_line_is_refused_before_anything_is_sent(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule(kfp, "create", "digits", "--image", "i:1", "--cron", "0 6 * * 1") == 2
    assert "write '0 0 6 * * 1'" in capsys.readouterr().err
    assert kfp.requests == []

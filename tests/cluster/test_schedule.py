"""Recurring runs by the command, through the real kfp.Client, against a server that keeps them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from optduel.pipeline.cli.command_line import main
from tests.cluster.kfp_requests import Request
from tests.cluster.kfp_server import KfpServer

CREATE = ("create", "digits", "--cron", "0 0 6 * * 1", "--image", "i:1", "--set", "study.seeds=[0,1]")


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer() as server:
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
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 6 * * 1"}}
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == ("1", True, "ENABLE")
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
    assert only(kfp)["trigger"] == {"cron_schedule": {"cron": "@daily"}}


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
            kfp._create_recurring_run(request.body)

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
    kfp._create_recurring_run({"display_name": "somebody else's", "mode": "ENABLE"})
    (version,) = kfp.versions.values()
    capsys.readouterr()
    assert schedule(kfp, "list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["enabled"]) for one in shown] == [("a", True), ("b", False), ("c", True)]
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

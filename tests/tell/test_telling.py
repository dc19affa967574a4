"""What is told of a run, once, and what is left in its folder."""

import json
from pathlib import Path

import pytest

from optduel.components.results import Notice, read_notices, run_folder, write_notice
from optduel.components.settings import WEBHOOKS_VARIABLE
from optduel.components.tell.ending import Ending
from optduel.components.tell.telling import RECORD_NAME, tell_run
from tests.tell.receivers import CANARY, Receiver

DONE = Ending("done")
FAILED = Ending("failed", ("train sgd-l2 seed 3: loss is not finite; AWS_SECRET_ACCESS_KEY=abcdefgh",))


def notice(event: str) -> Notice:
    return Notice.model_validate({"event": event, "subject": "flowers", "summary": f"About {event}."})


def tell(receiver: Receiver, root: Path, ending: Ending, *events: str) -> None:
    environment = {WEBHOOKS_VARIABLE: receiver.webhook, "KF_PIPELINES_UI_ENDPOINT": "http://ui/"}
    tell_run("flowers", str(root), "run-1", ending, events, environment)


def test_a_failure_is_told_with_task_and_cause(receiver: Receiver, tmp_path: Path) -> None:
    tell(receiver, tmp_path, FAILED)
    ((_, _, event),) = receiver.received
    assert event["type"] == "optduel.run.failed"
    assert event["data"]["summary"] == (
        "The run run-1 has failed. train sgd-l2 seed 3: loss is not finite; AWS_SECRET_ACCESS_KEY=***"
    )
    assert event["data"]["details"] == {"run": "run-1", "folder": run_folder(str(tmp_path), "run-1")}
    assert event["data"]["link"] == "http://ui/#/runs/details/run-1"
    assert [one.event for one in read_notices(run_folder(str(tmp_path), "run-1"))] == ["optduel.run.failed"]


@pytest.mark.parametrize(
    ("left", "ending", "told"),
    [
        ([], DONE, []),
        (["optduel.champion.promoted"], DONE, ["optduel.champion.promoted"]),
        (["optduel.champion.promoted"], Ending("cancelled"), []),
        (["optduel.gate.refused"], Ending("unknown"), ["optduel.gate.refused"]),
        # One word for one cause.
        (["optduel.data.late"], FAILED, ["optduel.data.late"]),
        # Of an earlier attempt that a later one has mended.
        (["optduel.run.failed", "optduel.run.skipped"], DONE, ["optduel.run.skipped"]),
    ],
)
def test_what_is_told(
    receiver: Receiver, tmp_path: Path, left: list[str], ending: Ending, told: list[str]
) -> None:
    for event in left:
        write_notice(run_folder(str(tmp_path), "run-1"), notice(event))
    tell(receiver, tmp_path, ending)
    assert receiver.events == told


def test_only_chosen_events_are_told(receiver: Receiver, tmp_path: Path) -> None:
    write_notice(run_folder(str(tmp_path), "run-1"), notice("optduel.run.skipped"))
    tell(receiver, tmp_path, DONE, "optduel.run.failed")
    assert receiver.received == []
    tell(receiver, tmp_path, DONE, "optduel.run.skipped")
    assert receiver.events == ["optduel.run.skipped"]


def test_what_arrived_is_not_sent_again_and_what_did_not_is(receiver: Receiver, tmp_path: Path) -> None:
    folder = run_folder(str(tmp_path), "run-1")
    write_notice(folder, notice("optduel.gate.refused"))
    receiver.answers = [404]
    tell(receiver, tmp_path, DONE)
    tell(receiver, tmp_path, DONE)
    tell(receiver, tmp_path, DONE)
    assert receiver.events == ["optduel.gate.refused"] * 2
    identities = {(event["source"], event["id"]) for _, _, event in receiver.received}
    assert identities == {("/optduel/flowers/runs/run-1", "optduel.gate.refused")}
    record = (Path(folder) / RECORD_NAME).read_text()
    assert [one["problem"] for one in json.loads(record)["sendings"]] == ["answered with HTTP 404", None]
    assert CANARY not in record


def test_a_failure_is_told_where_the_folder_cannot_be_used(
    receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    tell(receiver, tmp_path, FAILED)
    assert receiver.events == ["optduel.run.failed"]
    assert "cannot be recorded" in capsys.readouterr().err

"""A run on this machine tells, too, and leaves no address behind."""

from pathlib import Path

import pytest

from optduel.components.settings import APPRISE_VARIABLE, WEBHOOKS_VARIABLE
from optduel.pipeline.cli.command_line import main
from tests.tell.receivers import CANARY, Receiver


def fail(root: Path) -> int:
    source = f"data.source={{kind: folder, path: {root / 'absent'}}}"
    return main(["run", "digits", "--root", str(root), "--set", source])


@pytest.mark.usefixtures("quick_starts")
def test_a_failed_run_is_told_with_task_and_cause_and_no_address_is_left(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(WEBHOOKS_VARIABLE, receiver.webhook)
    monkeypatch.setenv(APPRISE_VARIABLE, f"json://127.0.0.1:1/{CANARY}")
    assert fail(tmp_path) == 2, "as without alerts"
    ((_, _, event),) = receiver.received
    (folder,) = (tmp_path / "runs").iterdir()
    assert event["type"] == "optduel.run.failed"
    assert event["subject"] == "digits"
    summary = event["data"]["summary"]
    assert summary.startswith(f"The run {folder.name} has failed. prepare: ")
    assert str(tmp_path / "absent") in summary
    said = capfd.readouterr()
    assert f"could not be sent: did not take it ({APPRISE_VARIABLE}, address 1)" in said.err
    left = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert CANARY not in said.out + said.err + left

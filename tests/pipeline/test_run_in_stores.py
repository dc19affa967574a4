"""A local run whose store refuses: one message, and a record of the failure where there can be one."""

import json
from pathlib import Path

import pytest

from optduel.components.storage import list_entries, read, stat
from optduel.pipeline.cli.command_line import main
from tests.faults.proxy import Answer, Fault
from tests.servers import stores
from tests.servers.places import Place, PlaceOf

QUICK = [
    *("--set", "tuning=null", "--set", "training.epochs=1", "--set", "study.seeds=[0]"),
    *("--set", "model={name: linear}"),
]


@pytest.fixture(autouse=True)
def copies_of_its_own(staging: Path, quick_starts: None) -> None:
    """No run finds what another has staged."""


ECHO = (
    "<?xml version='1.0'?><Error><Code>AccessDenied</Code>"
    f"<Message>Credential={stores.ACCESS_KEY}, secret {stores.SECRET_KEY}</Message></Error>"
)


@pytest.mark.slow
def test_a_run_that_may_not_write_its_models_ends_with_one_message(
    place_of: PlaceOf, capsys: pytest.CaptureFixture[str]
) -> None:
    place = place_of("s3")
    refusal = Answer(403, {}, ECHO.encode())
    place.proxy.inject(Fault(answer=refusal, methods=("PUT", "POST"), pattern="/models/", times=1_000_000))
    code = main(["run", "digits", "--root", place.root, *QUICK, "--set", "compute.restarts=0"])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("error:") == 1
    message = captured.err[captured.err.index("optduel: error: ") :]
    assert f"{place.root}/runs/digits-" in message
    assert "HTTP 403" in message
    assert "grant the identity in use" in message
    found = {entry.uri: read(entry.uri) for entry in list_entries(place.root)}
    (record,) = [json.loads(content) for name, content in found.items() if name.endswith("/run.json")]
    assert record["status"] == "failed"
    assert "HTTP 403" in record["error"]
    assert [name for name in found if name.endswith("/run.log")]
    for secret in (stores.ACCESS_KEY, stores.SECRET_KEY):
        assert secret not in captured.err
        assert not [name for name, content in found.items() if secret.encode() in content]


@pytest.mark.slow
def test_a_run_whose_store_is_unknown_is_told_before_it_begins(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = place.root.rpartition("/")[0]
    assert main(["run", "digits", "--root", f"{bucket}-absent/studies", *QUICK]) == 2
    message = capsys.readouterr().err
    assert f"optduel: error: {bucket}-absent/studies/runs/digits-" in message
    assert "HTTP 404" in message


def test_a_folder_without_a_run_has_no_report(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"{place.root}/runs/none"]) == 2
    assert f"{place.root}/runs/none: holds no run.json" in capsys.readouterr().err
    assert stat(f"{place.root}/runs/none/report.html") is None

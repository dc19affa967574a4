"""The tables of runs and `optduel history` in object stores."""

import json
from pathlib import Path

import pytest

from optduel.components.results import write_history
from optduel.components.storage import Entry, delete, list_entries
from optduel.pipeline.cli.command_line import main
from tests.pipeline.test_history_command import leave, rows, trial
from tests.servers import stores
from tests.servers.fixtures import fake_gcs_url, seaweedfs_url

__all__ = ["fake_gcs_url", "seaweedfs_url"]


@pytest.fixture(params=["gs", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place with two runs that agree."""
    server = "fake_gcs_url" if request.param == "gs" else "seaweedfs_url"
    variable = "STORAGE_EMULATOR_HOST" if request.param == "gs" else "AWS_ENDPOINT_URL_S3"
    monkeypatch.setenv(variable, request.getfixturevalue(server))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET_KEY)
    place = f"{request.param}://{stores.BUCKET}/{tmp_path.name}"
    for run in ("one", "two"):
        leave(place, run, trial(run, "sgd-l2", 0, rows()), trial(run, "adamw", 0, rows()))
    return place


def names(entries: list[Entry], root: str) -> list[str]:
    return [entry.uri.removeprefix(f"{root}/") for entry in entries]


def test_a_store_answers_as_a_folder_does(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("one", "two"):
        leave(str(tmp_path), run, trial(run, "sgd-l2", 0, rows()), trial(run, "adamw", 0, rows()))
    answers = []
    for place in (root, str(tmp_path)):
        for arguments in ([], ["one", "two"], [f"{place}/runs/two", f"{place}/runs/one/", "--format", "csv"]):
            assert main(["history", *arguments, "--root", place]) == 0
            answers.append(capsys.readouterr().out)
    assert answers[:3] == answers[3:]
    assert "two against one: same fingerprint, same records; 2 trials, 12 rows compared; equal" in answers[1]
    assert names(list_entries(root), root) == [
        "index/one.parquet",
        "index/two.parquet",
        "runs/one/history.parquet",
        "runs/two/history.parquet",
    ]


def test_json_lines_in_a_store_are_shown(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_history(f"{root}/task/history.jsonl", rows())
    assert main(["history", f"{root}/task/history.jsonl", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["epochs"] == 2


def test_a_run_that_is_not_in_the_store_is_one_message(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    delete(f"{root}/runs/two/history.parquet")
    for named in ("two", f"{root}/runs/two"):
        assert main(["history", named, "--root", root]) == 2
        assert (
            f"RUN = {named}: is neither a history file, nor the folder of a run, nor the name of one"
            in capsys.readouterr().err
        )

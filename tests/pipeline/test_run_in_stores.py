"""The whole main job with its data in real object stores on loopback: the same records, the same numbers."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from components.core.history_table import TrialHistory, decode_history_table
from components.core.records import load_records
from components.core.storage import delete, join, list_entries, read, stat
from components.evaluate.model import load_model
from pipeline.cli import main
from pipeline.local_run import load_run
from tests.faults.proxy import Answer, Fault
from tests.servers import stores
from tests.servers.places import Place, PlaceOf

QUICK = ["--set", "training.epochs=2", "--set", "study.seeds=[0, 1]", "--set", "model={name: linear}"]
SECRETS = (stores.ACCESS_KEY, stores.SECRET_KEY)


@pytest.fixture(autouse=True)
def copies_of_its_own(staging: Path) -> None:
    """No run finds what another has staged."""


def run(root: str, *settings: str) -> tuple[dict[str, Any], str]:
    """Runs the shipped digits, shortened; returns the answer and all that was printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["run", "digits", "--root", root, *QUICK, *settings, "--json"])
    assert code == 0, err.getvalue()
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer, out.getvalue() + err.getvalue()


def below(place: str) -> dict[str, bytes]:
    """All objects below a place, by their names within it."""
    return {entry.uri.removeprefix(f"{place}/"): read(entry.uri) for entry in list_entries(place)}


def trials(answer: dict[str, Any]) -> list[TrialHistory]:
    place = join(answer["run"], "history.parquet")
    return list(decode_history_table(read(place), place))


def numbers(answer: dict[str, Any]) -> str:
    """The histories of a run without their times, to be compared bit for bit."""
    return json.dumps(
        [
            [trial.arm, trial.seed, trial.data_fingerprint, [row.reproducible() for row in trial.rows]]
            for trial in trials(answer)
        ]
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The root of a run on local files, and its answer."""
    root = str(tmp_path_factory.mktemp("local"))
    return root, run(root)[0]


@pytest.mark.slow
def test_a_run_in_a_store_is_the_run_on_local_files(
    place: Place, local: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    local_root, local_answer = local
    answer, printed = run(place.root)
    found = below(place.root)

    assert {name: content for name, content in found.items() if name.startswith("datasets/")} == {
        name: content for name, content in below(local_root).items() if name.startswith("datasets/")
    }
    assert numbers(answer) == numbers(local_answer)
    assert answer["comparison"] == local_answer["comparison"]

    name = answer["run"].removeprefix(f"{place.root}/")
    record = json.loads(found[f"{name}/run.json"])
    assert record["status"] == "succeeded"
    assert answer["address"] == answer["report"] == f"{place.root}/{name}/report.html"
    for artifact in ("page", "card", "records", "collected", "comparison"):
        assert f"{name}/{record[artifact]}" in found
    assert f"index/{name.removeprefix('runs/')}.parquet" in found
    assert b"Executing task" in found[f"{name}/run.log"]
    manifest = load_records(join(answer["run"], record["records"])).manifest
    for arm in ("sgd-l2", "adamw"):
        for seed in (0, 1):
            trial = f"{name}/models/{arm}/seed-{seed}"
            left = [one.removeprefix(f"{trial}/") for one in found if one.startswith(trial)]
            assert [one for one in left if not one.startswith("tensorboard/")] == [
                "history.jsonl",
                "model.keras",
                "training.json",
            ], "and no checkpoints: nothing can go on from them"
            training = json.loads(found[f"{trial}/training.json"])
            model = load_model(f"{place.root}/{trial}/model.keras", training["model_sha256"], manifest)
            assert model.count_params() == 650

    for secret in SECRETS:
        assert secret not in printed + repr(load_run(answer["run"]))
        assert not [one for one, content in found.items() if secret.encode() in content]

    delete(answer["report"])
    assert main(["report", answer["run"]]) == 0
    assert f"report: {answer['report']}" in capsys.readouterr().out
    assert read(answer["report"]) == found[f"{name}/report.html"]
    assert main(["history", "--root", place.root]) == 0
    assert name.removeprefix("runs/") in capsys.readouterr().out


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
    found = below(place.root)
    (record,) = [json.loads(content) for name, content in found.items() if name.endswith("/run.json")]
    assert record["status"] == "failed"
    assert "HTTP 403" in record["error"]
    assert [name for name in found if name.endswith("/run.log")]
    for secret in SECRETS:
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

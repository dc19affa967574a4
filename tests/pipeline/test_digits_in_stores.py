"""The `digits` job, shortened, with its data in real stores: in every bit the job on local files.

Every claim looks at the same runs, for they are long.
"""

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from optduel.components.evaluate.model import load_model
from optduel.components.records import load_records
from optduel.components.results import decode_history_table
from optduel.components.storage import delete, join, list_entries, read
from optduel.pipeline.cli.command_line import main
from tests.servers import stores

EPOCHS = 3
TRIALS = [f"{arm}/seed-{seed}" for arm in ("sgd-l2", "adamw") for seed in range(2)]
SHORT = ["--set", "tuning=null", "--set", f"training.epochs={EPOCHS}", "--set", "study.seeds=[0, 1]"]

SETTINGS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "GOOGLE_APPLICATION_CREDENTIALS")
"""Of the caller's shell that would lead elsewhere."""


@dataclass(frozen=True)
class Finished:
    """A run that has ended.

    Attributes:
        root: what it was given as `--root`.
        answer: what it printed for programs.
        printed: all that it printed.
        staging: the local folder that it was given for copies of stored records.
    """

    root: str
    answer: dict[str, Any]
    printed: str
    staging: Path

    @property
    def place(self) -> str:
        """Where the run's results lie."""
        return str(self.answer["run"])

    @property
    def name(self) -> str:
        """The same, below the root."""
        return self.place.removeprefix(f"{self.root}/")


def run_digits(root: str, staging: Path, python: str) -> Finished:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTDUEL_STAGING", str(staging))
        patch.setattr(sys, "executable", python)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["run", "digits", "--root", root, *SHORT, "--json"])
    assert code == 0, err.getvalue()
    return Finished(root, json.loads(out.getvalue()), out.getvalue() + err.getvalue(), staging)


@pytest.fixture(scope="module")
def on_local_files(tmp_path_factory: pytest.TempPathFactory, forking_python: str) -> Finished:
    staging = tmp_path_factory.mktemp("staging")
    return run_digits(str(tmp_path_factory.mktemp("local")), staging, forking_python)


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("gs", "s3")]
)
def in_a_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forking_python: str
) -> Iterator[Finished]:
    variable, url = {
        "gs": ("STORAGE_EMULATOR_HOST", "fake_gcs_url"),
        "s3": ("AWS_ENDPOINT_URL_S3", "seaweedfs_url"),
    }[request.param]
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", stores.ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET_KEY)
        patch.setenv(variable, request.getfixturevalue(url))
        root = f"{request.param}://{stores.BUCKET}/digits-in-stores"
        yield run_digits(root, tmp_path_factory.mktemp("staging"), forking_python)


@pytest.fixture(scope="module")
def found(in_a_store: Finished) -> dict[str, bytes]:
    """All that the run has left in the store."""
    return below(in_a_store.root)


def below(place: str) -> dict[str, bytes]:
    """All objects below a place, by their names within it."""
    return {entry.uri.removeprefix(f"{place}/"): read(entry.uri) for entry in list_entries(place)}


def histories(run: Finished) -> dict[str, list[dict[str, float | int | str]]]:
    """Every row of every trial without its times."""
    place = join(run.place, "history.parquet")
    return {
        f"{trial.arm}/seed-{trial.seed}": [row.reproducible() for row in trial.rows]
        for trial in decode_history_table(read(place), place)
    }


@pytest.mark.slow
def test_records_have_the_same_bytes(on_local_files: Finished, in_a_store: Finished) -> None:
    stored = below(f"{in_a_store.root}/datasets")
    assert stored == below(f"{on_local_files.root}/datasets")
    assert [name for name in stored if name.endswith("/manifest.json")]
    assert [name for name in stored if name.endswith(".tfrecord")]


@pytest.mark.slow
def test_every_trial_has_the_same_history(on_local_files: Finished, in_a_store: Finished) -> None:
    expected, came = histories(on_local_files), histories(in_a_store)
    assert sorted(came) == sorted(TRIALS)
    for trial in TRIALS:
        assert json.dumps(came[trial]) == json.dumps(expected[trial]), trial
        assert came[trial][-1]["epoch"] == EPOCHS


@pytest.mark.slow
def test_the_verdict_is_the_same(on_local_files: Finished, in_a_store: Finished) -> None:
    assert in_a_store.answer["comparison"] == on_local_files.answer["comparison"]
    assert in_a_store.answer["fingerprint"] == on_local_files.answer["fingerprint"]


@pytest.mark.slow
def test_all_results_lie_in_the_store(in_a_store: Finished, found: dict[str, bytes]) -> None:
    answer, name = in_a_store.answer, in_a_store.name
    record = json.loads(found[f"{name}/run.json"])
    assert record["status"] == "succeeded"
    assert answer["address"] == answer["report"] == f"{answer['run']}/report.html"
    for artifact in ("page", "card", "records", "collected", "comparison"):
        assert f"{name}/{record[artifact]}" in found
    assert f"index/{name.removeprefix('runs/')}.parquet" in found
    assert b"Executing task" in found[f"{name}/run.log"]


@pytest.mark.slow
def test_every_trial_leaves_its_model_and_nothing_to_go_on_from(
    in_a_store: Finished, found: dict[str, bytes]
) -> None:
    name = in_a_store.name
    record = json.loads(found[f"{name}/run.json"])
    manifest = load_records(join(in_a_store.place, record["records"])).manifest
    for trial in (f"{name}/models/{trial}" for trial in TRIALS):
        left = [one.removeprefix(f"{trial}/") for one in found if one.startswith(f"{trial}/")]
        assert [one for one in left if not one.startswith("tensorboard/")] == [
            "history.jsonl",
            "model.keras",
            "training.json",
        ]
        training = json.loads(found[f"{trial}/training.json"])
        model = load_model(f"{in_a_store.root}/{trial}/model.keras", training["model_sha256"], manifest)
        trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        assert trained == training["parameters"]


@pytest.mark.slow
def test_no_credential_is_printed_or_left_anywhere(in_a_store: Finished, found: dict[str, bytes]) -> None:
    files = {str(path): path.read_bytes() for path in in_a_store.staging.rglob("*") if path.is_file()}
    assert files, "the copies that training has read"
    shown = in_a_store.printed + read(join(in_a_store.place, "run.json")).decode()
    for secret in (stores.ACCESS_KEY, stores.SECRET_KEY):
        assert secret not in shown
        assert [name for name, content in (found | files).items() if secret.encode() in content] == []


@pytest.mark.slow
def test_the_report_can_be_rebuilt_and_the_run_is_listed(
    in_a_store: Finished, found: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    delete(in_a_store.answer["report"])
    assert main(["report", in_a_store.place]) == 0
    assert f"report: {in_a_store.answer['report']}" in capsys.readouterr().out
    assert read(in_a_store.answer["report"]) == found[f"{in_a_store.name}/report.html"]
    assert main(["history", "--root", in_a_store.root]) == 0
    assert in_a_store.name.removeprefix("runs/") in capsys.readouterr().out

"""Whole runs through KFP's own local runner: from images to a verdict, or to one message."""

import contextlib
import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optduel.components.results import read_choice
from optduel.pipeline.cli.command_line import main
from tests.forking.fixtures import started_by

Answer = tuple[int, str, str]

SAME_ARMS = """arms=[
  {name: one, optimizer: adamw, weight_decay: 0.1, learning_rate: {schedule: constant, base: 0.01}},
  {name: other, optimizer: adamw, weight_decay: 0.1, learning_rate: {schedule: constant, base: 0.01}}]"""
QUICK = [
    *("--set", "tuning=null", "--set", "training.epochs=1", "--set", "study.seeds=[0, 1]"),
    *("--set", "model={name: linear}"),
]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, forking_python: str
) -> tuple[Path, dict[str, object], str]:
    """An A/A study: both arms equal, hence every paired difference exactly 0."""
    root = tmp_path_factory.mktemp("study")
    out, err = io.StringIO(), io.StringIO()
    with started_by(forking_python), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["run", "digits", "--root", str(root), "--set", SAME_ARMS, *QUICK, "--json"])
    assert code == 0, err.getvalue()
    answer: dict[str, object] = json.loads(out.getvalue())
    return Path(str(answer["run"])), answer, err.getvalue()


@pytest.mark.slow
def test_equal_arms_make_no_difference(finished: tuple[Path, dict[str, object], str]) -> None:
    _, answer, _ = finished
    comparison = answer["comparison"]
    assert isinstance(comparison, dict)
    (pair,) = comparison["comparisons"]
    assert pair["answer"] == "no difference"
    assert pair["differences"] == [0.0, 0.0]
    one, other = comparison["arms"]
    assert one["cross_entropy"] == other["cross_entropy"], "a seed gives both arms the same start and order"
    assert one["cross_entropy"][0] != one["cross_entropy"][1], "seeds differ"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_arms_that_are_equal_in_other_words_are_tuned_and_judged_alike(
    quick_starts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without decay SGD with L2 and SGDW are one optimizer: each setting, each choice, each trial."""
    rate = "learning_rate: {schedule: constant, base: 0.1}"
    search = "search: {learning_rate.base: {scale: log, low: 0.01, high: 1}}"
    arms = (
        f"arms=[{{name: sgd, optimizer: sgd, l2: 0, {rate}, {search}}},"
        f"{{name: sgdw, optimizer: sgdw, weight_decay: 0, {rate}, {search}}}]"
    )
    settings = (*QUICK, "--set", arms, "--set", "tuning={trials: 4, seeds: [100, 101]}")
    code = main(["run", "digits", "--root", str(tmp_path), *settings, "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    answer = json.loads(told.out)
    choice = read_choice(answer["run"])
    assert choice is not None
    one, other = choice.arms
    assert (one.chosen, one.values) == (other.chosen, other.values)
    scores = [[trial.validation[-1].cross_entropy for trial in one.settings[0].trials] for one in choice.arms]
    assert scores[0] == scores[1], "to the last bit"
    (pair,) = answer["comparison"]["comparisons"]
    assert pair["answer"] == "no difference"


@pytest.mark.slow
def test_run_keeps_report_plots_log_and_record(finished: tuple[Path, dict[str, object], str]) -> None:
    folder, answer, _ = finished
    assert answer["address"] == (folder / "report.html").as_uri()
    assert (folder / "history.parquet").is_file()
    assert (folder.parents[1] / "index" / f"{folder.name}.parquet").is_file()
    for page in ("report.html", "records.html"):
        assert "<html" in (folder / page).read_text()
    for name in ("losses.png", "losses.svg", "accuracy.png", "accuracy.svg"):
        assert (folder / "plots" / name).stat().st_size > 1000
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "succeeded"
    assert record["fingerprint"] == answer["fingerprint"]
    for artifact in ("records", "collected", "comparison"):
        assert (folder / record[artifact]).is_file()
    assert "Executing task" in (folder / "run.log").read_text(), "the log holds what KFP prints, too"


@pytest.mark.slow
def test_narration_tells_progress_without_library_chatter(
    finished: tuple[Path, dict[str, object], str],
) -> None:
    _, _, narration = finished
    assert "caution: study.seeds: 2 seeds can never show a difference" in narration
    assert "[4/4 trials]" in narration
    assert "examples/s" in narration
    assert "Executing task" not in narration
    assert "tensorflow" not in narration.lower()  # what its import says: tests/pipeline/test_interrupts.py


@pytest.mark.slow
def test_report_can_be_rebuilt_from_a_moved_run(
    finished: tuple[Path, dict[str, object], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = finished
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    before = (moved / "report.html").read_text()
    (moved / "report.html").unlink()
    shutil.rmtree(moved / "plots")
    assert main(["report", str(moved)]) == 0
    assert f"report: {moved / 'report.html'}" in capsys.readouterr().out
    assert (moved / "report.html").read_text() == before
    assert {path.name for path in (moved / "plots").iterdir()} == {
        path.name for path in (folder / "plots").iterdir()
    }


def lost(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


@pytest.mark.slow
def test_a_report_is_made_of_any_run_whose_trials_are_complete(
    finished: tuple[Path, dict[str, object], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a run that failed, or was killed, when its last trial was evaluated and nothing was compared."""
    folder, _, _ = finished
    failed = tmp_path / "root" / "runs" / "failed"
    shutil.copytree(folder, failed)
    lost(failed, "report.html", "experiment.json", "comparison.json", "history.parquet")
    record = json.loads((failed / "run.json").read_text())
    outputs = dict.fromkeys(("page", "card", "plots", "records", "collected", "comparison"))
    (failed / "run.json").write_text(json.dumps(record | outputs | {"status": "failed", "error": "no fonts"}))
    assert main(["report", str(failed)]) == 0
    assert (failed / "report.html").read_text() == (folder / "report.html").read_text()
    assert (failed / "comparison.json").read_bytes() == (folder / "comparison.json").read_bytes()
    capsys.readouterr()
    assert main(["history", "failed", "--root", str(tmp_path / "root")]) == 0
    assert main(["history", "--root", str(tmp_path / "root")]) == 0
    assert capsys.readouterr().out.count("failed") == 4 + 2, "trials, arms"


@pytest.mark.slow
def test_no_report_is_made_where_trials_are_missing(
    finished: tuple[Path, dict[str, object], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = finished
    failed = tmp_path / "failed"
    shutil.copytree(folder, failed)
    lost(failed, "report.html", "trials/other/seed-1.json")
    assert main(["report", str(failed)]) == 2
    assert capsys.readouterr().err == (
        f"optduel: error: {failed}: 1 of 4 trials are missing; run the study again: "
        "it takes the others over\ntrial other, seed 1: is missing\n"
    )
    assert not (failed / "report.html").exists()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_study_outlives_an_arm_that_diverges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "abc123")
    explosive = """arms=[
      {name: calm, optimizer: adamw, weight_decay: 0.1, learning_rate: {schedule: constant, base: 0.01}},
      {name: wild, optimizer: sgd, l2: 0.1, learning_rate: {schedule: constant, base: 1.0e+30}}]"""
    arguments = ["run", "digits", "--root", str(tmp_path), "--set", explosive, *QUICK, "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "caution: wild diverged on 2 of 2 seeds: seed 0, " in captured.err
    assert "[4/4 trials]" in captured.err
    answer = json.loads(captured.out)
    (pair,) = answer["comparison"]["comparisons"]
    assert pair["sentence"].startswith("Not shown: calm and wild finished together on no seed")
    page = (Path(answer["run"]) / "report.html").read_text()
    assert page.count('<span class="flag">diverged</span>') == 2
    assert main(arguments) == 0
    assert capsys.readouterr().err.count("takes over") == 4, "a divergence is a result, too"


def photograph(path: Path, seed: int = 0, image_format: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path, image_format)


def photos(folder: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(6):
            photograph(folder / name / f"{number}.jpg", seed=hash_free(name, number))


def hash_free(name: str, number: int) -> int:
    return sum(name.encode()) * 100 + number


def truncate(folder: Path) -> None:
    photos(folder)
    victim = folder / "cat" / "3.jpg"
    victim.write_bytes(victim.read_bytes()[:-60])


def zero(folder: Path) -> None:
    photos(folder)
    (folder / "dog" / "1.jpg").write_bytes(b"")


def bomb(folder: Path) -> None:
    photos(folder)
    path = folder / "cat" / "0.jpg"
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, start + 5, 20_000, 20_000)
    path.write_bytes(content)


def empty_class(folder: Path) -> None:
    photos(folder)
    (folder / "bird").mkdir()


def no_classes(folder: Path) -> None:
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (truncate, ["cat/3.jpg"]),
        (zero, ["dog/1.jpg"]),
        (bomb, ["cat/0.jpg", "20000"]),
        (empty_class, ["bird"]),
        (no_classes, ["photos"]),
        (lambda folder: None, ["photos"]),
    ],
    ids=["truncated", "zero-byte", "bomb", "empty-class", "no-classes", "absent-folder"],
)
def test_bad_images_end_a_run_with_one_message_and_earlier_results_stay(
    spoil: Callable[[Path], None], told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "root" / "runs" / "earlier" / "report.html"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("before")
    folder = tmp_path / "photos"
    spoil(folder)
    source = f"data.source={{kind: folder, path: {folder}}}"
    settings = ["--set", source, "--set", "data.image_size=[8, 8]", "--set", "data.channels=3"]
    split = ["--set", "data.split={train: 0.5, validation: 0.25, test: 0.25}"]
    code = main(["run", "digits", "--root", str(tmp_path / "root"), *settings, *split, *QUICK])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    message = captured.err[captured.err.index("optduel: error: ") :]
    for words in told:
        assert words in message
    assert "Traceback" not in captured.err
    assert captured.err.count("error:") == 1
    assert earlier.read_text() == "before"
    (record,) = (tmp_path / "root" / "runs").glob("digits-*/run.json")
    assert json.loads(record.read_text())["status"] == "failed"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_study_whose_report_failed_is_finished_by_running_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "abc123")
    arguments = ["run", "digits", "--root", str(tmp_path), "--set", SAME_ARMS, *QUICK]
    (tmp_path / "index").write_text("in the way of the run's place in the index")
    assert main(arguments) == 2
    assert "takes over" not in capsys.readouterr().err
    (tmp_path / "index").unlink()
    assert main([*arguments, "--set", "study.seeds=[0, 1, 2]"]) == 0
    narration = capsys.readouterr().err
    assert narration.count("takes over") == 4, "the trials that were complete"
    assert narration.count(": epoch 1/1") == 2, "those of the new seed"

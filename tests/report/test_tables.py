"""What a finished run leaves for queries over many runs."""

import datetime
from pathlib import Path

import pytest
from pyarrow import dataset

from optduel.components.core import StorageError
from optduel.components.report.report import write_tables
from optduel.components.results import decode_history_table, indexed_runs, read_index


def write(study, root: Path, run: str) -> None:
    write_tables(str(root), run, study.experiment, study.trials, study.comparison)


def test_every_row_of_every_trial_is_there_with_its_identity(study, tmp_path: Path) -> None:
    write(study, tmp_path, "digits-1")
    path = tmp_path / "runs" / "digits-1" / "history.parquet"
    trials = decode_history_table(path.read_bytes(), str(path))
    assert [trial.rows for trial in trials] == [trial.history for trial in study.trials.trials]
    for found, trained in zip(trials, study.trials.trials, strict=True):
        training = trained.training
        assert (found.run, found.experiment, found.fingerprint) == (
            "digits-1",
            "digits",
            study.experiment.fingerprint,
        )
        assert (found.arm, found.seed) == (training.arm, training.seed)
        assert found.code_version == training.environment.code_version
        assert found.data_fingerprint == training.data_fingerprint
        assert found.started.replace(tzinfo=datetime.UTC) == datetime.datetime.fromisoformat(training.started)


def test_times_are_kept_in_utc(study, tmp_path: Path) -> None:
    abroad = [
        trial.model_copy(
            update={"training": trial.training.model_copy(update={"started": "2026-11-23T12:30:00+02:00"})}
        )
        for trial in study.trials.trials
    ]
    trials = study.trials.model_copy(update={"trials": tuple(abroad)})
    write_tables(str(tmp_path), "digits-1", study.experiment, trials, study.comparison)
    assert {arm.started for arm in read_index(str(tmp_path)).arms} == {
        datetime.datetime(2026, 11, 23, 10, 30)
    }


def test_the_index_has_each_arm_with_its_medians_and_its_verdict(study, tmp_path: Path) -> None:
    write(study, tmp_path, "digits-1")
    first, other = read_index(str(tmp_path)).arms
    (pair,) = study.comparison.comparisons
    for found, summary in zip((first, other), study.comparison.arms, strict=True):
        assert (found.run, found.arm, found.seeds) == ("digits-1", summary.arm, 6)
        assert found.median_accuracy == summary.median_accuracy
        assert found.median_cross_entropy == summary.median_cross_entropy
        assert found.started == datetime.datetime(2026, 11, 23, 10, 0)
    assert (first.baseline, first.p_value, first.sentence) == (None, None, None)
    assert (other.baseline, other.metric, other.answer) == ("sgd-l2", "accuracy", pair.answer)
    assert (other.p_value, other.sentence) == (pair.p_value, pair.sentence)
    assert other.mean_difference == pair.mean_difference


def test_runs_together_are_one_table_for_any_reader(study, make_study, tmp_path: Path) -> None:
    write(study, tmp_path, "digits-1")
    write(make_study(seeds=1, epochs=2), tmp_path, "digits-2")
    (tmp_path / "runs" / "digits-2" / "report.html").write_text("no table")
    files = sorted(str(path) for path in (tmp_path / "runs").rglob("history.parquet"))
    rows = dataset.dataset(files).to_table(filter=dataset.field("event") == "epoch")
    counted = {}
    for run in rows.column("run").to_pylist():
        counted[run] = counted.get(run, 0) + 1
    assert counted == {"digits-1": 2 * 6 * 8 * 2, "digits-2": 2 * 1 * 2 * 2}
    index = dataset.dataset(str(tmp_path / "index")).to_table()
    assert sorted(set(index.column("run").to_pylist())) == ["digits-1", "digits-2"]


def test_writing_a_run_again_changes_nothing_and_leaves_others_alone(
    study, make_study, tmp_path: Path
) -> None:
    write(study, tmp_path, "digits-1")
    write(make_study(seeds=1, epochs=2), tmp_path, "digits-2")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    write(study, tmp_path, "digits-1")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(before) == 4


def test_a_run_whose_histories_cannot_be_written_is_not_in_the_index(study, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits-1").write_text("in the way")
    with pytest.raises(StorageError, match="digits-1"):
        write(study, tmp_path, "digits-1")
    assert indexed_runs(str(tmp_path)) == []


def test_three_arms_are_three_rows_with_two_verdicts(make_study, tmp_path: Path) -> None:
    arms = tuple(
        {"name": name, "optimizer": "sgd", "learning_rate": {"schedule": "constant", "base": 0.1}}
        for name in ("a", "b", "c")
    )
    write(make_study(arms=arms, seeds=2, epochs=1), tmp_path, "three")
    found = read_index(str(tmp_path)).arms
    assert [(arm.arm, arm.baseline) for arm in found] == [("a", None), ("b", "a"), ("c", "a")]
    assert found[1].sentence != found[2].sentence

"""A page says which trials diverged, and when, and shows what can be shown."""

import itertools
from collections.abc import Collection
from pathlib import Path

import pytest

from optduel.components.report.report import write_tables
from optduel.components.results import decode_history_table, read_index
from tests.compare.conftest import compared
from tests.results.divergences import with_lost

SEEDS = tuple(range(6))


def with_divergences(study, lost: Collection[tuple[str, int]]):
    trials = with_lost(study.trials, lost)
    comparison = compared(study.experiment.study, ["sgd-l2", "adamw"], trials)
    return type(study)(study.experiment, study.records, trials, comparison)


def test_a_trial_that_diverged_stands_at_the_top_and_in_the_tables(study, parse_page) -> None:
    diverged = with_divergences(study, {("adamw", 2)})
    report = diverged.report()
    page = parse_page(report.html)
    page.assert_is_self_contained()
    page.assert_images_are_drawings_with_alternatives()
    before, _, after = page.text.partition("Learning curves")
    told = "adamw diverged on 1 of 6 seeds: seed 2, loss or gradient not finite at step 7, in epoch 1."
    assert told in before
    assert before.index(told) < before.index("What an arm reaches on the seeds that it survives")
    assert "5 paired seeds of 6" in before
    assert "loss or gradient not finite at step 7, in epoch 1" in after
    rows = page.table("seed")
    assert [row[0].startswith(str(seed)) for row, seed in zip(rows[-6:], SEEDS, strict=True)] == [True] * 6
    assert ["not compared" in row[0] for row in rows[-6:]] == [False, False, True, False, False, False]
    assert len(page.table("replicas")) == 1 + 12
    assert sum("none: diverged at step 7" in row[-1] for row in page.table("replicas")) == 1
    assert told in report.summary
    # Medians are those of the seeds that are compared.
    left = [trial for trial in study.trials.of("sgd-l2") if trial.training.seed != 2]
    median = sorted(trial.evaluation.accuracy.value for trial in left)[2]
    (accuracy,) = [row for row in page.table("accuracy higher is better") if row[0].startswith("accuracy")]
    assert accuracy[1].startswith(f"{100 * median:.2f} %")


@pytest.mark.parametrize(
    "lost",
    [{("adamw", seed) for seed in SEEDS}, {(arm, seed) for arm in ("sgd-l2", "adamw") for seed in SEEDS}],
    ids=["an arm", "everything"],
)
def test_a_page_is_made_of_what_is_left(study, lost: set[tuple[str, int]], parse_page) -> None:
    report = with_divergences(study, lost).report()
    page = parse_page(report.html)
    page.assert_is_self_contained()
    if report.figures:
        page.assert_images_are_drawings_with_alternatives()
    assert "Not shown: sgd-l2 and adamw finished together on no seed" in page.text
    assert "adamw diverged on 6 of 6 seeds: seed 0, " in page.text
    assert [svg for svg in page.all("svg") if svg["class"] == "strip"] == []
    assert ("losses.svg" in report.figures) == (len(lost) == 6)
    assert "confusion-adamw.svg" not in report.figures
    assert "nan" not in page.text.split()


def test_tables_over_many_runs_have_the_trials_that_diverged(study, tmp_path: Path) -> None:
    diverged = with_divergences(study, {("adamw", 2), ("sgd-l2", 0)})
    write_tables(str(tmp_path), "one", study.experiment, diverged.trials, diverged.comparison)
    found = decode_history_table((tmp_path / "runs/one/history.parquet").read_bytes(), "h")
    assert [(trial.arm, trial.seed) for trial in found] == list(itertools.product(("sgd-l2", "adamw"), SEEDS))
    assert [trial.diverged_step for trial in found] == [7, *[None] * 7, 7, *[None] * 3]
    assert [bool(trial.rows) for trial in found] == [False, *[True] * 7, False, *[True] * 3]
    assert [(arm.arm, arm.seeds, arm.diverged) for arm in read_index(str(tmp_path)).arms] == [
        ("sgd-l2", 4, 1),
        ("adamw", 4, 1),
    ]

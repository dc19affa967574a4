"""The stage as Kubeflow Pipelines runs it: documents in, documents and display out."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import dsl

from optduel.components.compare.component import compare
from optduel.components.results import (
    Comparison,
    Trial,
    Trials,
    predictions_file,
    read_document,
    trial_document,
    write_document,
    write_predictions,
)
from optduel.components.settings import FIRST_SHARE
from optduel.pipeline.cli.shipped import load_experiment
from tests.compare.conftest import foretold
from tests.results.divergences import diverge

VALUES = {"sgd-l2": [0.90, 0.91, 0.89, 0.92, 0.90, 0.91], "adamw": [0.92, 0.92, 0.92, 0.93, 0.93, 0.92]}


@pytest.fixture
def root(make_trial: Callable[..., Trial], tmp_path: Path) -> Path:
    """Where the evaluations of a run are."""
    for arm, column in VALUES.items():
        for seed, value in enumerate(column):
            trial, folder = make_trial(arm, seed, accuracy=value), str(tmp_path / "runs/run-1")
            write_document(trial_document(folder, arm, seed), trial)
            write_predictions(predictions_file(folder, arm, seed), foretold(trial))
    return tmp_path


def run_compare(root: Path, seeds: tuple[int, ...]) -> tuple[Comparison, Trials, dict, str]:
    kinds = {
        "collected": dsl.Dataset,
        "comparison": dsl.Dataset,
        "metrics": dsl.Metrics,
        "summary": dsl.Markdown,
    }
    outputs = {name: kind(name=name, uri=str(root / name)) for name, kind in kinds.items()}
    compare.python_func(
        experiment=load_experiment("digits", [f"study.seeds={list(seeds)}"]).canonical_json(),
        root=str(root),
        run="run-1",
        **outputs,
    )
    assert (root / "metrics").stat().st_size > 0  # or the local runner never caches this task
    comparison = read_document(root / "comparison", Comparison)
    trials = read_document(root / "collected", Trials)
    return comparison, trials, outputs["metrics"].metadata, (root / "summary").read_text(encoding="utf-8")


def test_trials_are_gathered_in_the_order_of_arms_and_seeds(root: Path) -> None:
    _, trials, _, _ = run_compare(root, (0, 1, 2, 3, 4, 5))
    assert [trial.training.arm for trial in trials.trials] == ["sgd-l2"] * 6 + ["adamw"] * 6
    assert [trial.evaluation.accuracy.value for trial in trials.of("adamw")] == VALUES["adamw"]


def test_run_page_shows_verdict_and_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison, _, metrics, page = run_compare(root, (0, 1, 2, 3, 4, 5))
    (pair,) = comparison.comparisons
    assert pair.better == "adamw"
    assert metrics["adamw answer"] == "adamw is better"
    assert metrics["adamw difference"] == pair.mean_difference
    assert metrics["adamw p"] == 2 / 2**6 / FIRST_SHARE
    assert metrics["adamw accuracy"] == 0.92
    assert max(map(len, metrics)) <= 24, "Kubeflow Pipelines cuts long names"
    for value in metrics.values():
        assert type(value) in (str, float)  # what both the backend and the local runner can carry
        assert isinstance(value, str) or math.isfinite(value)
    assert pair.sentence in page
    cells = " | &nbsp;&nbsp;".join(["adamw", "92.00 %", "92.00 %", "93.00 %", "0.3000", "6", "0"])
    assert f"| {cells} |" in page
    assert "| adamw minus sgd-l2 | &nbsp;&nbsp;+1.8 points |" in page
    # `optduel submit --wait` reads it there.
    assert f"optduel: verdict: {pair.sentence}\n" in capsys.readouterr().err


def test_trials_that_diverged_are_gathered_and_told(
    root: Path, make_trial: Callable[..., Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    lost = diverge(make_trial("adamw", 2))
    write_document(trial_document(str(root / "runs/run-1"), "adamw", 2), lost)
    comparison, trials, metrics, page = run_compare(root, (0, 1, 2, 3, 4, 5))
    assert trials.diverged == (lost,)
    assert len(trials.trials) == 11
    assert metrics["adamw diverged"] == 1.0
    assert "sgd-l2 diverged" not in metrics
    told = "adamw diverged on 1 of 6 seeds: seed 2, loss or gradient not finite at step 7, in epoch 1."
    assert comparison.cautions[0] == told
    assert f"Mind:\n\n- {told}" in page
    assert f"caution: {told}" in capsys.readouterr().err


def test_trial_that_is_missing_ends_the_task_with_bad_data(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run_compare(root, (0, 1, 2, 3, 4, 5, 6))
    assert raised.value.code == 65
    told = capsys.readouterr().err
    assert "2 of 14 trials are missing; run the study again: it takes the others over\n" in told
    assert "trial adamw, seed 6: is missing" in told
    assert not (root / "comparison").exists()

"""The stage as Kubeflow Pipelines runs it: documents in, documents and display out."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import dsl

from optduel.components.compare.component import collect_arm, compare
from optduel.components.results import Comparison, Trial, Trials, read_document, write_document
from optduel.components.settings import Study

VALUES = {"sgd-l2": [0.90, 0.91, 0.89, 0.92, 0.90, 0.91], "adamw": [0.92, 0.92, 0.92, 0.93, 0.93, 0.92]}


def artifacts(kind: type[dsl.Artifact], folder: Path, *names: str) -> list[dsl.Artifact]:
    return [kind(name=name, uri=str(folder / name)) for name in names]


@pytest.fixture
def collected(make_trial: Callable[..., Trial], tmp_path: Path) -> dsl.Dataset:
    previous = None
    for arm, column in VALUES.items():
        trials = artifacts(dsl.Dataset, tmp_path, *(f"{arm}-{seed}" for seed in range(len(column))))
        for seed, (artifact, value) in enumerate(zip(trials, column, strict=True)):
            write_document(Path(artifact.path), make_trial(arm, seed, accuracy=value))
        (gathered,) = artifacts(dsl.Dataset, tmp_path, f"collected-{arm}")
        collect_arm.python_func(trials=trials, collected=gathered, previous=previous)
        previous = gathered
    return previous


def run_compare(collected: dsl.Dataset, folder: Path, seeds: tuple[int, ...]) -> tuple[Comparison, dict, str]:
    (comparison,) = artifacts(dsl.Dataset, folder, "comparison")
    (metrics,) = artifacts(dsl.Metrics, folder, "metrics")
    (summary,) = artifacts(dsl.Markdown, folder, "summary")
    compare.python_func(
        study=Study(seeds=seeds).canonical_json(),
        arms=json.dumps(list(VALUES)),
        collected=collected,
        comparison=comparison,
        metrics=metrics,
        summary=summary,
    )
    assert Path(metrics.path).stat().st_size > 0  # or the local runner never caches this task
    document = read_document(Path(comparison.path), Comparison)
    return document, metrics.metadata, Path(summary.path).read_text(encoding="utf-8")


def test_any_number_of_arms_is_gathered_by_the_same_component(collected: dsl.Dataset) -> None:
    trials = read_document(Path(collected.path), Trials)
    assert [trial.evaluation.accuracy.value for trial in trials.of("adamw")] == VALUES["adamw"]
    assert len(trials.trials) == 12


def test_run_page_shows_verdict_and_numbers(collected: dsl.Dataset, tmp_path: Path) -> None:
    comparison, metrics, page = run_compare(collected, tmp_path, (0, 1, 2, 3, 4, 5))
    (pair,) = comparison.comparisons
    assert pair.better == "adamw"
    assert metrics["adamw against sgd-l2: answer"] == "adamw is better"
    assert metrics["adamw against sgd-l2: mean difference"] == pair.mean_difference
    assert metrics["adamw against sgd-l2: p"] == 2 / 2**6
    assert metrics["adamw median accuracy"] == 0.92
    for value in metrics.values():
        assert type(value) in (str, float)  # what both the backend and the local runner can carry
        assert isinstance(value, str) or math.isfinite(value)
    assert pair.sentence in page
    assert "| adamw | 92.00 % | 92.00 % | 93.00 % | 0.3000 | 6 |" in page
    assert "| adamw minus sgd-l2 | +1.8 points |" in page


def test_trial_that_is_missing_ends_the_task_with_bad_data(
    collected: dsl.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run_compare(collected, tmp_path, (0, 1, 2, 3, 4, 5, 6))
    assert raised.value.code == 65
    assert "trial adamw, seed 6: is missing" in capsys.readouterr().err
    assert not (tmp_path / "comparison").exists()

"""The benchmarks work: what they measure is found by `make bench`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.benchmark import Benchmark, Comparison, Contestant, Measure
from tests.benchmarks.catalogue import CATALOGUE, Setting
from tests.benchmarks.document import render
from tests.benchmarks.machine import describe_machine, measured_cores
from tests.benchmarks.summary import summarize
from tests.benchmarks.workload import Workload

REPOSITORY = Path(__file__).parents[2]

needs_two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(measured_cores()) < 2,
    reason="the benchmarks pin processes to two cores, which Linux can do where there are two",
)


def run_benchmarks(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.exhaustive
@pytest.mark.slow
@needs_two_cores
def test_a_quick_run_measures(tmp_path: Path) -> None:
    finished = run_benchmarks(
        "input", "--quick", "--only", "optduel raw", "optduel, training", "--out", str(tmp_path)
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["quick"] is True
    assert {"processor", "cores", "memory_bytes", "code_version", "packages"} <= results["machine"].keys()
    found = results["benchmarks"]["input"]
    assert list(found["contestants"]) == ["optduel raw", "optduel, training (auto)"]
    for contestant in found["contestants"].values():
        (run,) = contestant["runs"]
        for number in (run["images_per_second"], run["process_seconds"], *run["epoch_rates"]):
            assert number > 0
        spread = contestant["summary"]["images_per_second"]
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    assert found["comparisons"].keys() == {"optduel raw: part of a step's time"}
    assert finished.stdout == (tmp_path / "results.md").read_text()
    assert "| optduel raw |" in finished.stdout


@needs_two_cores
def test_without_photos_one_line_says_what_to_do(tmp_path: Path) -> None:
    for value, state in (("", "not set"), (str(tmp_path / "none.tgz"), "none.tgz: no such file")):
        finished = run_benchmarks("step", "--out", str(tmp_path), OPTDUEL_FLOWERS_ARCHIVE=value)
        assert finished.returncode == 2
        last = finished.stderr.splitlines()[-1]
        assert "OPTDUEL_FLOWERS_ARCHIVE = " in last
        assert state in last


def every_contestant() -> list[Contestant]:
    workload = Workload("data", None, (32, 32))
    setting = Setting(workload, (0, 1), (0,), 2, Path("python"), None, is_quick=True)
    return [contestant for make in CATALOGUE.values() for contestant in make(setting).contestants]


@pytest.mark.parametrize("contestant", every_contestant(), ids=lambda contestant: contestant.name)
def test_a_contestant_is_given_what_it_takes(contestant: Contestant) -> None:
    # Read, not imported: some need seconds and some a package that is not here.
    tree = ast.parse((REPOSITORY / "tests" / "benchmarks" / f"{contestant.module}.py").read_text())
    (run,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    names = [argument.arg for argument in run.args.args]
    required = names[: len(names) - len(run.args.defaults)]
    assert names[:2] == ["seed", "folder"]
    assert set(required[2:]) <= contestant.arguments.keys() <= set(names[2:])
    json.dumps(dict(contestant.arguments))


def test_comparisons_name_contestants_that_exist() -> None:
    workload = Workload("data", None, (32, 32))
    setting = Setting(workload, (0, 1), (0,), 2, Path("python"), None, is_quick=True)
    for name, make in CATALOGUE.items():
        benchmark = make(setting)
        names = [contestant.name for contestant in benchmark.contestants]
        assert benchmark.name == name
        assert len(set(names)) == len(names)
        for comparison in benchmark.comparisons:
            assert {comparison.first, comparison.second} <= set(names)


def contestant(name: str) -> Contestant:
    return Contestant(name, "ours", {}, (), ((0, 1),))


@pytest.fixture
def benchmark() -> Benchmark:
    return Benchmark(
        "speed",
        "how fast",
        (0, 1, 2),
        tuple(contestant(name) for name in ("a", "b", "absent", "broken")),
        (Measure("rate", "images/s"),),
        (Comparison("a / b", "rate", "a", "b"), Comparison("a / absent", "rate", "a", "absent")),
    )


@pytest.fixture
def runs() -> dict[str, list[dict[str, Any]]]:
    return {
        "a": [{"rate": 30.0}, {"rate": 10.0}, {"rate": 26.0}],
        "b": [{"rate": 10.0}, {"rate": 5.0}, {"failed": "exited with code 1\nthe log's last line"}],
        "absent": [{"skipped": "not installed"}] * 3,
        "broken": [{"failed": "exited with code 1\nthe log's last line"}] * 3,
    }


def test_medians_and_comparisons_within_repetitions(benchmark: Benchmark, runs: Any) -> None:
    found = summarize(benchmark, runs)
    assert found["contestants"]["a"]["summary"] == {"rate": {"median": 26, "min": 10, "max": 30}}
    assert found["contestants"]["b"]["summary"] == {"rate": {"median": 7.5, "min": 5, "max": 10}}
    assert found["contestants"]["absent"]["summary"] == {}
    # 30/10 and 10/5; the third repetition has no partner.
    assert found["comparisons"] == {"a / b": {"median": 2.5, "min": 2, "max": 3}}


def test_the_page_shows_spreads_and_reasons(benchmark: Benchmark, runs: Any) -> None:
    results = {
        "made": "2026-01-01T00:00:00+00:00",
        "quick": False,
        "machine": describe_machine(),
        "benchmarks": {"speed": summarize(benchmark, runs)},
    }
    lines = render(results, [benchmark]).splitlines()
    assert "| a | 26.0 (10.0 to 30.0) |" in lines
    assert "| absent | - |" in lines
    assert "| a / b | 2.50 (2.00 to 3.00) |" in lines
    assert "- absent: skipped: not installed" in lines
    assert "- broken: failed: the log's last line" in lines

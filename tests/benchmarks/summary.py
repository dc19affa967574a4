"""Sums up repetitions: medians with their extremes, and comparisons made within each repetition."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.benchmark import Benchmark, Measure

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def summarize(benchmark: Benchmark, runs: Runs) -> dict[str, Any]:
    """The benchmark's part of the results.

    Args:
        benchmark: what was run.
        runs: as `measurement.measure` returns them.

    Returns:
        JSON values: `contestants` with their runs and, for each measure that they have, `median`, `min` and
        `max`; `comparisons` with the same three.
    """
    contestants = {
        contestant.name: {
            "cores": [list(cores) for cores in contestant.cores],
            "runs": [dict(run) for run in runs[contestant.name]],
            "summary": {
                measure.key: _spread(values)
                for measure in benchmark.measures
                if (values := _values(runs[contestant.name], measure))
            },
        }
        for contestant in benchmark.contestants
    }
    comparisons = {}
    for comparison in benchmark.comparisons:
        pairs = zip(runs.get(comparison.first, ()), runs.get(comparison.second, ()), strict=False)
        values = [
            comparison.combine(first[comparison.key], second[comparison.key])
            for first, second in pairs
            if comparison.key in first and comparison.key in second
        ]
        if values:
            comparisons[comparison.title] = _spread(values)
    return {
        "title": benchmark.title,
        "seeds": list(benchmark.seeds),
        "contestants": contestants,
        "comparisons": comparisons,
    }


def _values(runs: Sequence[Mapping[str, Any]], measure: Measure) -> list[float]:
    return [run[measure.key] for run in runs if measure.key in run]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}

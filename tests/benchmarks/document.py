"""The results as a Markdown page whose tables a README can take over."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.benchmark import Benchmark, Measure


def render(results: Mapping[str, Any], benchmarks: Sequence[Benchmark]) -> str:
    """The page of all benchmarks that are in the results.

    Args:
        results: `machine`, and `benchmarks` by name as `summary.summarize` gives them.
        benchmarks: how they are to be shown.
    """
    machine = results["machine"]
    units = ", ".join(machine["bfloat16_units"]) or "no bfloat16 units"
    packages = machine["packages"]
    lines = [
        f"{machine['processor']} ({units}), {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['platform']}; Python {machine['python']}, "
        f"TensorFlow {packages.get('tensorflow-cpu', packages.get('tensorflow'))}, "
        f"Keras {packages['keras']}, code {machine['code_version']}, {results['made']}. "
        "Medians, in brackets the smallest and the largest; comparisons are made within each repetition.",
    ]
    if results["quick"]:
        lines += [
            "",
            "A quick run on tiny made-up images: it shows that the benchmarks work, and nothing else.",
        ]
    for benchmark in benchmarks:
        if found := results["benchmarks"].get(benchmark.name):
            lines += ["", f"### {benchmark.name}: {benchmark.title}", "", *_table(benchmark, found)]
    return "\n".join(lines) + "\n"


def _table(benchmark: Benchmark, found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Repetitions: {len(found['seeds'])}.",
        "",
        "| | " + " | ".join(measure.title for measure in benchmark.measures) + " |",
        "| --- " * (len(benchmark.measures) + 1) + "|",
    ]
    notes: list[str] = []
    for name, contestant in found["contestants"].items():
        cells = [_cell(contestant["summary"], measure) for measure in benchmark.measures]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        last = contestant["runs"][-1]
        notes += [
            f"- {name}: {_in_words(last, outcome)}" for outcome in ("skipped", "failed") if outcome in last
        ]
        for measure in benchmark.series:
            if measure.key in last:
                values = ", ".join(f"{value:.{measure.decimals}f}" for value in last[measure.key])
                notes.append(f"- {name}, {measure.title}: {values}")
    if found["comparisons"]:
        lines += ["", "| comparison | |", "| --- | --- |"]
        lines += [f"| {title} | {_spread(spread, 2)} |" for title, spread in found["comparisons"].items()]
    return [*lines, "", *notes] if notes else lines


def _in_words(run: Mapping[str, Any], outcome: str) -> str:
    """One line; where a log is quoted its last one says why."""
    return f"{outcome}: {run[outcome].splitlines()[-1]}"


def _cell(summary: Mapping[str, Any], measure: Measure) -> str:
    return _spread(summary[measure.key], measure.decimals) if measure.key in summary else "-"


def _spread(spread: Mapping[str, float], decimals: int) -> str:
    median, least, most = (f"{spread[key]:,.{decimals}f}" for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"

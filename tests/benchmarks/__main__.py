"""The command line: `python -m tests.benchmarks [NAME ...]`, or `make bench`."""

import argparse
import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from optduel.components.core import say
from optduel.components.results import now
from optduel.components.storage import publish
from tests.benchmarks.benchmark import Benchmark, Contestant
from tests.benchmarks.catalogue import CATALOGUE, ON_REQUEST, WITHOUT_PHOTOS, Setting
from tests.benchmarks.document import render
from tests.benchmarks.machine import describe_machine, measured_cores
from tests.benchmarks.measurement import measure
from tests.benchmarks.summary import summarize
from tests.benchmarks.torch_environment import torch_python
from tests.benchmarks.workload import Workload

ARCHIVE_VARIABLE = "OPTDUEL_FLOWERS_ARCHIVE"


def main(arguments: list[str]) -> int:
    """Measures; the tables go to standard output and with the numbers into files. 1 when something broke."""
    options = _parse(arguments)
    # So that an end from outside ends the contestants, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    scratch = options.out.absolute() / "scratch"
    workload = _workload(options, scratch)
    names = options.names or [name for name in CATALOGUE if name not in ON_REQUEST]
    torch, problem = torch_python(
        scratch / "torch", is_to_install=bool({"step", "resnet"} & {*names}) and not options.quick
    )
    first_core, second_core = measured_cores()
    setting = Setting(
        workload=workload,
        cores=(first_core, second_core),
        seeds=tuple(options.seeds),
        epochs=options.epochs or (2 if options.quick else 7),
        torch_python=torch,
        torch_problem=problem,
        is_quick=options.quick,
    )
    benchmarks = [_narrow(_repeat(CATALOGUE[name](setting), options), options) for name in names]
    results: dict[str, Any] = {
        "schema_version": 1,
        "made": now(),
        "quick": options.quick,
        "machine": describe_machine(),
        "benchmarks": {},
    }
    _prepare(benchmarks, workload, scratch)
    for benchmark in benchmarks:
        results["benchmarks"][benchmark.name] = summarize(benchmark, measure(benchmark, scratch / "runs"))
        # After each, because all of them take hours.
        publish(options.out / "results.json", json.dumps(results, indent=1).encode())
        publish(options.out / "results.md", render(results, benchmarks).encode())
    sys.stdout.write(render(results, benchmarks))
    say(f"results: {options.out / 'results.json'} and results.md beside it")
    return 1 if _failed(results) else 0


def build_parser() -> argparse.ArgumentParser:
    """The options, whatever this machine can do."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    unasked = ", ".join(ON_REQUEST)
    parser.add_argument(
        "names",
        nargs="*",
        type=_benchmark_name,
        metavar="NAME",
        help=f"what to measure: {', '.join(CATALOGUE)}; without NAME all but {unasked}",
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        help="how often each benchmark is measured (default: 3; accuracy once for each seed)",
    )
    parser.add_argument("--epochs", type=int, help="epochs of a whole arm (default: 7)")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(range(6)),
        help="seeds of the repetitions, in turns (default: 0 to 5)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="only contestants with one of these words in their names"
    )
    parser.add_argument(
        "--quick", action="store_true", help="use tiny made-up images, to see whether all works"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("optduel-runs", "benchmarks"), help="folder for results"
    )
    return parser


def _benchmark_name(text: str) -> str:
    if text not in CATALOGUE:
        raise argparse.ArgumentTypeError(f"{text}: no such benchmark; there are {', '.join(CATALOGUE)}")
    return text


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = build_parser()
    options = parser.parse_args(arguments)
    for option in ("repetitions", "epochs"):
        if (value := getattr(options, option)) is not None and value < 1:
            parser.error(f"--{option} = {value}: must be at least 1")
    if not hasattr(os, "sched_setaffinity") or not Path("/proc/self/task").exists():
        parser.error("the benchmarks pin processes to cores and need Linux")
    if len(measured_cores()) < 2:
        parser.error("the benchmarks need two processor cores")
    archive = os.environ.get(ARCHIVE_VARIABLE)
    is_archive_needed = not (options.quick or (options.names and {*options.names} <= {*WITHOUT_PHOTOS}))
    if is_archive_needed and not (archive and Path(archive).is_file()):
        state = f"{archive}: no such file" if archive else "not set"
        parser.error(f"{ARCHIVE_VARIABLE} = {state}; name flower_photos.tgz of tf_flowers, or try --quick")
    options.archive = str(Path(archive).absolute()) if is_archive_needed and archive else None
    return options


def _workload(options: argparse.Namespace, scratch: Path) -> Workload:
    if options.archive is None:
        return Workload(str(scratch / "data-made-up"), None, (32, 32))
    with open(options.archive, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return Workload(str(scratch / f"data-{content[:12]}"), options.archive, (180, 180))


def _repeat(benchmark: Benchmark, options: argparse.Namespace) -> Benchmark:
    usual = len(options.seeds) if benchmark.name in ON_REQUEST else 3
    count = options.repetitions or (1 if options.quick else usual)
    if len(benchmark.seeds) == 1:  # measured once
        return benchmark
    seeds = tuple(options.seeds[repetition % len(options.seeds)] for repetition in range(count))
    return replace(benchmark, seeds=seeds)


def _narrow(benchmark: Benchmark, options: argparse.Namespace) -> Benchmark:
    if not options.only:
        return benchmark
    chosen = tuple(
        contestant
        for contestant in benchmark.contestants
        if any(text in contestant.name for text in options.only)
    )
    if not chosen:
        names = ", ".join(contestant.name for contestant in benchmark.contestants)
        raise SystemExit(
            f"--only = {' '.join(options.only)}: names no contestant of {benchmark.name}: {names}"
        )
    return replace(benchmark, contestants=chosen)


def _prepare(benchmarks: list[Benchmark], workload: Workload, scratch: Path) -> None:
    """Makes the data, once, in a process of its own."""
    contestants = [contestant for benchmark in benchmarks for contestant in benchmark.contestants]
    needs = sorted({need for contestant in contestants for need in contestant.needs})
    if not needs:
        return
    say(f"preparing {', '.join(needs)} in {workload.root}")
    arguments = {**workload.arguments, "needs": needs}
    cores = tuple(sorted(os.sched_getaffinity(0)))
    preparation = Contestant("data", "workload", arguments, (), (cores,))
    work = Benchmark("preparation", "data", (0,), (preparation,), ())
    (outcome,) = measure(work, scratch / "runs")["data"]
    if "failed" in outcome:
        raise SystemExit(f"the data cannot be prepared: {outcome['failed']}")


def _failed(results: dict[str, Any]) -> bool:
    return any(
        "failed" in run
        for benchmark in results["benchmarks"].values()
        for contestant in benchmark["contestants"].values()
        for run in contestant["runs"]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

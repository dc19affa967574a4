"""Runs the contestants of a benchmark in turns, each in processes of its own on the cores that it names."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optduel.components.core import say, seconds_in_words
from tests.benchmarks.benchmark import Benchmark, Contestant

REPOSITORY = Path(__file__).parents[2]

LIMIT_SECONDS = 4 * 3600.0
"""Ends a contestant that hangs."""

_GRACE_SECONDS = 20.0
_LOG_LINES = 20

Run = dict[str, Any]


def measure(benchmark: Benchmark, scratch: Path) -> dict[str, list[Run]]:
    """The results of every contestant, one for each repetition.

    A result holds what the contestant's `run` returned, and `process_seconds` from start to exit. One that
    could not run has `skipped` instead, one that broke `failed`; the others go on.

    Args:
        benchmark: what to run.
        scratch: for requests, results, logs and what the contestants write; only the logs stay.
    """
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in benchmark.contestants}
    for repetition, seed in enumerate(benchmark.seeds, start=1):
        for contestant in benchmark.contestants:
            where = f"{benchmark.name} {repetition}/{len(benchmark.seeds)} {contestant.name}"
            load = os.getloadavg()[0]
            run = _run(contestant, seed, scratch / benchmark.name / contestant.name, repetition)
            runs[contestant.name].append({"seed": seed, "load_before": load, **run})
            say(f"{where}: {_in_words(run)}")
    return runs


def _run(contestant: Contestant, seed: int, folder: Path, repetition: int) -> Run:
    if contestant.skipped is not None:
        return {"skipped": contestant.skipped}
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    places = [folder / f"{repetition}-{index}" for index in range(len(contestant.cores))]
    processes = [
        _start(contestant, seed, cores, place) for cores, place in zip(contestant.cores, places, strict=True)
    ]
    try:
        for process in processes:
            process.wait(max(0.0, started + LIMIT_SECONDS - time.perf_counter()))
        seconds = time.perf_counter() - started
    except subprocess.TimeoutExpired:
        return {"failed": f"still ran after {seconds_in_words(LIMIT_SECONDS)}; see {folder}"}
    finally:
        for process in processes:
            _kill(process)
    results = []
    for process, place in zip(processes, places, strict=True):
        if process.returncode:
            log = place.with_suffix(".log")
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            return {"failed": f"exited with code {process.returncode}; the end of {log}:\n{tail}"}
        results.append(json.loads(place.with_suffix(".result.json").read_text()))
        shutil.rmtree(place)
    return {**_merge(results), "process_seconds": seconds}


def _start(contestant: Contestant, seed: int, cores: Sequence[int], place: Path) -> subprocess.Popen[bytes]:
    shutil.rmtree(place, ignore_errors=True)  # of a run that broke: its checkpoints would be taken up
    place.mkdir()
    request_file, result_file = place.with_suffix(".request.json"), place.with_suffix(".result.json")
    request = {
        "module": contestant.module,
        "seed": seed,
        "folder": str(place),
        "cores": list(cores),
        "arguments": dict(contestant.arguments),
    }
    request_file.write_text(json.dumps(request))
    command = [str(contestant.python or sys.executable), "-m", "tests.benchmarks.contestant"]
    with place.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [*command, str(request_file), str(result_file)],
            cwd=REPOSITORY,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started, if it still runs; a launcher first ends its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _merge(results: Sequence[Run]) -> Run:
    if len(results) == 1:
        return results[0]
    return {
        "images_per_second": sum(result["images_per_second"] for result in results),
        "each": list(results),
    }


def _in_words(run: Run) -> str:
    for outcome in ("skipped", "failed"):
        if outcome in run:
            return f"{outcome}: {run[outcome]}"
    rate = f", {run['images_per_second']:,.0f} images/s" if "images_per_second" in run else ""
    return f"{run['process_seconds']:.1f} s{rate}"

"""Starts a trial's workers as processes of this host, passes on what they print, and ends them together."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import TERMINATION_LOG_VARIABLE, LaunchError, OptduelError, read_termination
from components.core.storage import publish
from components.train.task import Task

GRACE_SECONDS = 10.0
"""Between asking a worker to end and killing it."""

_POLL_SECONDS = 0.05


@dataclass
class _Worker:
    index: int
    process: subprocess.Popen[str]
    termination_log: Path
    pump: threading.Thread


class LocalLauncher:
    """Each worker is a process of this host; several talk over the loopback interface."""

    def run(self, task: Task) -> None:
        """Runs `task.compute.workers` processes; returns when every one has succeeded.

        Raises:
            OptduelError: what the first failing worker reported.
            LaunchError: a worker could not be started, or died without a report.
        """
        with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
            task_file = Path(scratch) / "task.json"
            publish(task_file, task.canonical_json().encode())
            addresses = _free_addresses(task.compute.workers)
            workers: list[_Worker] = []
            try:
                for index in range(task.compute.workers):
                    workers.append(_start(task_file, index, addresses, Path(scratch)))
                _wait(task, workers)
            finally:
                _stop(workers)


def _start(task_file: Path, index: int, addresses: Sequence[str], scratch: Path) -> _Worker:
    termination_log = scratch / f"termination-{index}.json"
    environment = {
        **os.environ,
        TERMINATION_LOG_VARIABLE: str(termination_log),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    environment.pop("TF_CONFIG", None)
    if len(addresses) > 1:
        cluster = {"worker": list(addresses)}
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "components.train.worker", str(task_file)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    prefix = f"worker {index} | " if len(addresses) > 1 and index else ""
    pump = threading.Thread(target=_pass_on, args=(process, prefix), daemon=True)
    pump.start()
    return _Worker(index, process, termination_log, pump)


def _pass_on(process: subprocess.Popen[str], prefix: str) -> None:
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            sys.stderr.write(f"{prefix}{line}")
            sys.stderr.flush()


def _wait(task: Task, workers: Sequence[_Worker]) -> None:
    running = list(workers)
    while running:
        for worker in list(running):
            code = worker.process.poll()
            if code is None:
                continue
            running.remove(worker)
            if code:
                worker.pump.join()
                raise _root_cause(task, worker, code, workers)
        time.sleep(_POLL_SECONDS)


def _root_cause(task: Task, worker: _Worker, code: int, workers: Sequence[_Worker]) -> OptduelError:
    """The report of a worker, if any wrote one; the first to end is otherwise taken for the cause."""
    reports = [read_termination(peer.termination_log) for peer in [worker, *workers]]
    if told := next((report for report in reports if report), None):
        return told
    manner = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
    hint = " (out of memory?)" if code == -9 else ""
    return LaunchError(
        f"train {task.name}: worker {worker.index} of {len(workers)} {manner}{hint}; see its last lines"
    )


def _stop(workers: Sequence[_Worker]) -> None:
    """Ends what still runs: TensorFlow swallows SIGTERM at times, so a deadline and SIGKILL follow."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.pump.join()


def _free_addresses(count: int) -> list[str]:
    """Loopback addresses on ports that no one uses; all are held until the last is chosen, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{held.getsockname()[1]}" for held in sockets]
    finally:
        for held in sockets:
            held.close()

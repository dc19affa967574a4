"""Watches the workers that this process has started: pins each to a core, and samples their memory.

It goes by Linux' /proc, so that the launcher is measured as it is, whatever processes a worker consists of.
"""

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_SECONDS = 0.02
_MODULE = b"optduel.components.train."
"""What the command line of a worker names."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in megabytes, 10^6 bytes: its own, mapped from files, highest so far."""

    anonymous: float
    file: float
    peak: float


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    started: int


class WorkerProcesses:
    """The children of this process that are workers, in the order in which they were started.

    Args:
        cores: worker i is pinned to the i-th of them, with all its threads and children; empty leaves the
            workers where they are.
    """

    def __init__(self, cores: Sequence[int] = ()) -> None:
        self._cores = cores
        self._pinned: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen: list[set[int]] = [set() for _ in cores]

    def __enter__(self) -> "WorkerProcesses":
        if self._cores:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._cores:
            self._thread.join()

    @property
    def seen_cores(self) -> list[list[int]]:
        """For each worker that was pinned, the cores that any of its threads was then allowed to run on."""
        return [sorted(cores) for cores in self._seen]

    def memory(self) -> Memory | None:
        """Of the largest process of the first worker, None when there is no worker."""
        table = _process_table()
        workers = _workers(table)
        family = _family(table, workers[0]) if workers else []
        found = [memory for pid in family if (memory := _memory(pid))]
        return max(found, key=lambda memory: memory.anonymous + memory.file, default=None)

    def _watch(self) -> None:
        ticks = 0
        while not self._ended.wait(_TICK_SECONDS):
            ticks += 1
            # Starting takes seconds and training minutes: after the start a look now and then suffices.
            if len(self._pinned) >= len(self._cores) and ticks % 100:
                continue
            table = _process_table()
            workers = _workers(table)
            for worker, core in zip(workers, self._cores, strict=False):
                if worker not in self._pinned:
                    _pin(_family(table, worker), core)
                    self._pinned.add(worker)
            for worker, seen in zip(workers, self._seen, strict=False):
                seen |= _allowed_cores(_family(table, worker))


def _process_table() -> list[_Process]:
    processes = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            processes.append(_Process(int(entry), int(fields[1]), int(fields[19])))
    return processes


def _workers(table: Sequence[_Process]) -> list[int]:
    children = sorted(
        (process for process in table if process.parent == os.getpid()),
        key=lambda process: (process.started, process.pid),
    )
    workers = []
    for child in children:
        with contextlib.suppress(OSError):
            if _MODULE in Path("/proc", str(child.pid), "cmdline").read_bytes():
                workers.append(child.pid)
    return workers


def _family(table: Sequence[_Process], pid: int) -> list[int]:
    """The process and all that descend from it."""
    family = [pid]
    for member in family:
        family += [process.pid for process in table if process.parent == member]
    return family


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def _pin(family: Sequence[int], core: int) -> None:
    for pid in family:
        for thread in _threads(pid):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, {core})


def _allowed_cores(family: Sequence[int]) -> set[int]:
    allowed: set[int] = set()
    for pid in family:
        for thread in _threads(pid):
            with contextlib.suppress(ProcessLookupError):
                allowed |= os.sched_getaffinity(thread)
    return allowed


def _memory(pid: int) -> Memory | None:
    with contextlib.suppress(OSError):
        lines = Path("/proc", str(pid), "status").read_text().splitlines()
        kilobytes = {
            line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("Rss", "VmHWM"))
        }
        if kilobytes:  # one that has ended has none
            names = ("RssAnon", "RssFile", "VmHWM")
            return Memory(*(int(kilobytes[name]) * 1024 / 1e6 for name in names))
    return None

"""What the kernel lets this process have of the machine: processor cores, and memory until it kills."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")


def usable_cores() -> int:
    """Cores this process may use at a time: its affinity, and a container's processor quota, rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for quota, period in _quotas():
        if quota > 0:
            cores = min(cores, -(-quota // period))
    return max(1, cores)


def usable_memory() -> int:
    """Bytes of memory this process may still take: of the machine's, and of its container's limit."""
    rooms = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(FileNotFoundError):  # not Linux
        rooms.append(1024 * _fields(_MEMORY.read_text(), ":").get("MemAvailable", rooms[0]))
    for controller, limit, in_use in (
        ("", "memory.max", "anon"),
        ("memory", "memory.limit_in_bytes", "total_rss"),
    ):
        limits = [text.strip() for text in _settings(controller, limit)]
        usages = [_fields(text).get(in_use, 0) for text in _settings(controller, "memory.stat")]
        # What a container has of files in memory, the kernel takes back.
        rooms += [int(text) - used for text, used in zip(limits, usages, strict=False) if text != "max"]
    return max(0, min(rooms))


def _fields(text: str, mark: str = "") -> dict[str, int]:
    """The numbers of a file of lines such as "anon 4096" or "MemAvailable:  1024 kB"."""
    words = (line.split() for line in text.splitlines())
    return {name.removesuffix(mark): int(value) for name, value, *_ in words}


def oom_kills() -> int:
    """Processes of this one's cgroup that the kernel killed for want of memory; 0 where it does not say."""
    for text in (*_settings("", "memory.events"), *_settings("memory", "memory.oom_control")):
        fields = dict(line.split(maxsplit=1) for line in text.splitlines())
        if "oom_kill" in fields:
            return int(fields["oom_kill"])
    return 0


def _quotas() -> Iterator[tuple[int, int]]:
    """Processor time and the period in which it may be used, in microseconds; -1 for no limit."""
    for text in _settings("", "cpu.max"):
        quota, period = text.split()
        yield (-1 if quota == "max" else int(quota)), int(period)
    quotas, periods = (_settings("cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    for quota, period in zip(quotas, periods, strict=True):
        yield int(quota), int(period)


def _settings(controller: str, name: str) -> list[str]:
    """A file of this process's cgroup; version 2 has no controllers by name, version 1 one tree for each.

    In a container the path of /proc/self/cgroup may be the host's, while the own cgroup is mounted on top.
    """
    found = []
    with contextlib.suppress(FileNotFoundError):  # not Linux
        for line in _OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", maxsplit=2)
            if controller in controllers.split(","):
                tree = _CGROUPS / controller
                for place in (tree / path.lstrip("/") / name, tree / name):
                    with contextlib.suppress(OSError):
                        found.append(place.read_text())
                        break
    return found

"""What the kernel allows, read from the files of both versions of control groups."""

import os
from pathlib import Path

import pytest

from optduel.components.core import machine


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(params=["version-1", "version-1-in-a-container", "version-2", "version-2-in-a-container"])
def limited(request: pytest.FixtureRequest, cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores, of which a quota of one and a half may be used; two processes were killed."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    version, _, container = request.param.partition("-in-")
    path = "" if container else "pod/7"
    if version == "version-1":
        write(cgroups / "own", "4:memory:/pod/7\n2:cpu,cpuacct:/pod/7\n1:name=systemd:/\n0::/\n")
        write(cgroups / "cgroup" / "memory" / path / "memory.oom_control", "oom_kill_disable 0\noom_kill 2\n")
        write(cgroups / "cgroup" / "cpu" / path / "cpu.cfs_quota_us", "150000\n")
        write(cgroups / "cgroup" / "cpu" / path / "cpu.cfs_period_us", "100000\n")
    else:
        write(cgroups / "own", f"0::/{path}\n")
        write(cgroups / "cgroup" / path / "memory.events", "low 0\nmax 9\noom 3\noom_kill 2\n")
        write(cgroups / "cgroup" / path / "cpu.max", "150000 100000\n")
    return cgroups


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8_000 * 1024),
        ({"memory.max": "max\n", "memory.stat": "anon 5\n"}, 8_000 * 1024),
        ({"memory.max": "4000000\n", "memory.stat": "anon 1000000\nfile 2900000\n"}, 3_000_000),
        ({"memory.max": "4000000\n", "memory.stat": "anon 5000000\n"}, 0),
        ({"memory/memory.limit_in_bytes": "4000000\n", "memory/memory.stat": "total_rss 1000\n"}, 3_999_000),
        (
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.stat": ""},
            8_000 * 1024,
        ),
    ],
)
def test_memory_is_the_container_s_or_the_machine_s(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    """What a container holds of files can be taken back, so only what is anonymous counts."""
    monkeypatch.setattr(machine, "_MEMORY", cgroups / "meminfo")
    write(cgroups / "meminfo", "MemTotal: 16000 kB\nMemFree: 100 kB\nMemAvailable:    8000 kB\n")
    write(cgroups / "own", "0::/\n2:memory:/\n")
    for name, text in files.items():
        write(cgroups / "cgroup" / name, text)
    assert machine.usable_memory() == expected


def test_kills_and_quota_are_found(limited: Path) -> None:
    assert machine.oom_kills() == 2
    assert machine.usable_cores() == 2


@pytest.mark.parametrize(
    ("own", "file", "text"),
    [("0::/", "cpu.max", "max 100000\n"), ("2:cpu:/", "cpu/cpu.cfs_quota_us", "-1\n"), (None, "none", "")],
)
def test_without_a_limit_all_cores_count(cgroups: Path, own: str | None, file: str, text: str) -> None:
    if own:
        write(cgroups / "own", own)
    write(cgroups / "cgroup" / file, text)
    write(cgroups / "cgroup" / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert machine.usable_cores() == (len(os.sched_getaffinity(0)))
    assert machine.oom_kills() == 0

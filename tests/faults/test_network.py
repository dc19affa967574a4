"""Workers on hosts of their own, as the network sees it: namespaces, joined by a bridge that can be cut."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.components.core import PeerLostError, read_termination
from optduel.components.train.contract.task import WORKER_MODULE, Task
from tests.faults.conftest import STEPS
from tests.faults.groups import read_progress, results
from tests.train.processes import wait_until

CUT_SECONDS = 20.0
"""The promise: workers that are cut off from each other end within this time."""

SLACK_SECONDS = 20.0


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True, timeout=30)


class Hosts:
    """Two hosts and the bridge between them, each a network namespace."""

    def __init__(self) -> None:
        prefix = f"optduel-{os.getpid()}"
        self.names = [f"{prefix}-{index}" for index in range(2)]
        self.addresses = ["10.77.0.1:2222", "10.77.0.2:2222"]
        self._bridge = f"{prefix}-bridge"

    def build(self) -> None:
        for name in (self._bridge, *self.names):
            ip(f"netns add {name}")
            ip(f"-n {name} link set lo up")
        ip(f"-n {self._bridge} link add bridge type bridge")
        ip(f"-n {self._bridge} link set bridge up")
        for index, name in enumerate(self.names):
            ip(f"-n {name} link add eth0 type veth peer name port{index} netns {self._bridge}")
            ip(f"-n {name} address add 10.77.0.{index + 1}/24 dev eth0")
            ip(f"-n {name} link set eth0 up")
            ip(f"-n {self._bridge} link set port{index} master bridge up")

    def cut(self) -> None:
        """Packets vanish without a trace: no port is closed, no link goes down."""
        ip(f"-n {self._bridge} link set port1 nomaster")

    def heal(self) -> None:
        ip(f"-n {self._bridge} link set port1 master bridge")

    def remove(self) -> None:
        for name in (*self.names, self._bridge):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(f"netns delete {name}")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the ip command")
    hosts = Hosts()
    try:
        try:
            hosts.build()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield hosts
    finally:
        hosts.remove()


class Workers:
    """The two workers of a task, a host each, started as on a cluster."""

    def __init__(self, hosts: Hosts, task: Task, folder: Path) -> None:
        folder.mkdir()
        (folder / "task.json").write_text(task.canonical_json())
        self.reports = [folder / f"termination-{index}" for index in range(2)]
        self.progress = folder / "progress-0"
        self.logs = [folder / f"log-{index}" for index in range(2)]
        self.processes = []
        for index, host in enumerate(hosts.names):
            told = {
                "OPTDUEL_PEERS": ",".join(hosts.addresses),
                "OPTDUEL_WORKER_INDEX": str(index),
                "OPTDUEL_TERMINATION_LOG": str(self.reports[index]),
                "OPTDUEL_PROGRESS": str(folder / f"progress-{index}"),
            }
            worker = [
                sys.executable,
                "-m",
                WORKER_MODULE,
                str(folder / "task.json"),
            ]
            with self.logs[index].open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        ["ip", "netns", "exec", host, *worker],
                        env=os.environ | told,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )

    def wait_for_step(self, step: int) -> None:
        def has_come() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return read_progress(self.progress).step >= step
            return False

        wait_until(lambda: has_come() or self.ended(), 200)
        assert not self.ended(), self.text()

    def ended(self) -> bool:
        return any(process.poll() is not None for process in self.processes)

    def wait(self, seconds: float) -> list[int]:
        deadline = time.monotonic() + seconds
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes]

    def text(self) -> str:
        return "\n".join(path.read_text() for path in self.logs)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def working(hosts: Hosts, task: Task, folder: Path) -> Iterator[Workers]:
    workers = Workers(hosts, task, folder)
    try:
        yield workers
    finally:
        workers.end()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_flap_is_survived_and_a_cut_ends_both_sides(
    hosts: Hosts, task: Callable[..., Task], uninterrupted: str, tmp_path: Path
) -> None:
    cut = task()
    with working(hosts, cut, tmp_path / "first") as workers:
        workers.wait_for_step(STEPS // 10)
        hosts.cut()
        time.sleep(3)
        hosts.heal()
        workers.wait_for_step(STEPS // 3)
        hosts.cut()
        began = time.monotonic()
        codes = workers.wait(CUT_SECONDS + SLACK_SECONDS)
        took = time.monotonic() - began
        told = [read_termination(report) for report in workers.reports]
        assert codes == [75, 75], workers.text()
        assert [type(error) for error in told] == [PeerLostError, PeerLostError], workers.text()
        assert took < CUT_SECONDS + SLACK_SECONDS
    assert not Path(cut.record_file).exists()

    hosts.heal()
    with working(hosts, cut, tmp_path / "second") as workers:
        assert workers.wait(200) == [0, 0], workers.text()
    assert "goes on after step" in workers.text()
    assert results(cut) == uninterrupted


@pytest.mark.slow
def test_a_host_that_cannot_be_reached_is_named(
    hosts: Hosts, task: Callable[..., Task], tmp_path: Path
) -> None:
    hosts.cut()
    with working(hosts, task(start_seconds=4.0), tmp_path / "trial") as workers:
        assert workers.wait(30) == [75, 75], workers.text()
        told = [str(read_termination(report)) for report in workers.reports]
    for index, error in enumerate(told):
        other = 1 - index
        assert f"worker {index}: 1 of 2 workers did not answer within compute.start_seconds = 4" in error
        assert f"worker {other} ({hosts.addresses[other]}): " in error

"""The local launcher: real processes stand for workers; who fails, hangs or stops, and what follows."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optduel.components.core import (
    DataError,
    LaunchError,
    OptduelError,
    OutOfMemoryError,
    PeerLostError,
    RefusedError,
    SetupError,
    StoppedError,
    TrainingError,
)
from optduel.components.train.contract import restarts
from optduel.components.train.contract.outcome import End, root_cause
from optduel.components.train.contract.task import Task
from optduel.components.train.local import local_launcher
from optduel.components.train.local import process as local_worker
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.train.processes import ending, is_running, script, wait_until

Launch = Callable[..., None]


@pytest.fixture
def task(make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Task]:
    monkeypatch.setattr(restarts, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(local_launcher, "REPORT_SECONDS", 2.0)
    monkeypatch.setattr(local_launcher, "MARGIN_SECONDS", 0.2)

    def make(workers: int = 2, **compute: Any) -> Task:
        task = make_task("trial", workers=workers)
        return task.model_copy(update={"compute": task.compute.model_copy(update=compute)})

    return make


@pytest.fixture
def run(task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launch:
    """Launches two workers, each of which runs the given code; `attempt` counts from 1."""
    count = """
seen = folder / f"attempts-{index}"
seen.write_text((seen.read_text() if seen.exists() else "") + "x")
attempt = len(seen.read_text())
"""

    def run(code: str, workers: int = 2, **compute: Any) -> None:
        monkeypatch.setattr(sys, "executable", script(tmp_path / "worker", count + code))
        LocalLauncher().run(task(workers, **compute))

    return run


def attempts(folder: Path) -> list[int]:
    return [len(path.read_text()) for path in sorted(folder.glob("attempts-*"))]


def test_workers_know_each_other_and_every_attempt_has_ports_of_its_own(run: Launch, tmp_path: Path) -> None:
    run("""
(folder / f"told-{attempt}-{index}").write_text(os.environ["OPTDUEL_PEERS"])
if attempt == 1:
    sys.exit(75)
""")
    told = {path.name: path.read_text() for path in tmp_path.glob("told-*")}
    assert set(told) == {"told-1-0", "told-1-1", "told-2-0", "told-2-1"}
    assert told["told-1-0"] == told["told-1-1"] != told["told-2-0"] == told["told-2-1"]
    peers = told["told-2-0"].split(",")
    assert len(set(peers)) == 2
    assert all(peer.startswith("127.0.0.1:") for peer in peers)


def test_lines_of_all_but_the_chief_carry_the_worker_s_number(
    run: Launch, capfd: pytest.CaptureFixture[str]
) -> None:
    run("print('hello')\nprint('optduel: a line', file=sys.stderr)")
    assert sorted(capfd.readouterr().err.splitlines()) == [
        "hello",
        "optduel: a line",
        "worker 1 | hello",
        "worker 1 | optduel: a line",
    ]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ExperimentError", OptduelError),
        ("DataError", DataError),
        ("TrainingError", TrainingError),
        ("SetupError", SetupError),
        ("RefusedError", RefusedError),
    ],
)
def test_a_final_failure_ends_the_group_at_once(
    run: Launch, tmp_path: Path, name: str, error: type[OptduelError]
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match="the cause"):
        run(f"""
while not (folder / "attempts-0").exists():
    time.sleep(0.01)
end({name}('the cause')) if index else time.sleep(600)
""")
    assert time.monotonic() - began < 60
    assert attempts(tmp_path) == [1, 1]


def test_the_root_cause_is_told_and_not_who_noticed_first(run: Launch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shard 3"):
        run("""
if index == 0:
    end(PeerLostError("lost worker 1"))
time.sleep(0.5)
end(DataError("shard 3: broken"))
""")
    assert attempts(tmp_path) == [1, 1]


def test_the_worker_that_its_peers_have_lost_is_named(run: Launch) -> None:
    """It says nothing itself: it is frozen, or too slow for its peers."""
    words = "worker 2 of 3: its peers have lost it, while training, after step 9: too slow, frozen or cut off"
    with pytest.raises(LaunchError, match=words):
        run(
            """
control.report("training", 9)
while len(list(folder.glob("attempts-*"))) < 3:
    time.sleep(0.01)
if index < 2:
    end(PeerLostError(f"worker {index}: lost another worker"))
os.kill(os.getpid(), signal.SIGSTOP)
""",
            workers=3,
            restarts=0,
        )


def test_peers_end_within_seconds_after_one_worker_s_want_of_memory(run: Launch, tmp_path: Path) -> None:
    """Those that notice nothing, too: a second each of `REPORT_SECONDS` and of the request to stop."""
    with pytest.raises(OutOfMemoryError, match="worker 1: no memory"):
        run(
            """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(folder / f"pid-{index}").write_text(str(os.getpid()))
while len(list(folder.glob("pid-*"))) < 3:
    time.sleep(0.01)
end(OutOfMemoryError("worker 1: no memory")) if index == 1 else time.sleep(600)
""",
            workers=3,
            restarts=0,
        )
    assert not any(is_running(int(path.read_text())) for path in tmp_path.glob("pid-*"))


def test_the_order_of_causes() -> None:
    lost, frozen = End(75, PeerLostError("lost")), End(75, LaunchError("frozen"))
    killed, memory = End(-9, LaunchError("killed")), End(137, OutOfMemoryError("memory"))
    data, stopped = End(65, DataError("data")), End(143, StoppedError("stopped"))
    assert root_cause([lost, frozen, data, memory]) is data
    assert root_cause([lost, killed, memory]) is memory
    assert root_cause([lost, killed, stopped]) is killed
    assert root_cause([lost, stopped]) is stopped
    assert root_cause([lost]) is lost


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("end(LaunchError('cut off'))", "cut off. All workers"),
        ("end(StorageError('full'))", "full. All workers"),
        ("end(OutOfMemoryError('no memory'))", "no memory. All workers"),
        ("os.kill(os.getpid(), 9)", "worker 1 of 2 was killed by SIGKILL, while starting, after step 0"),
    ],
)
def test_a_passing_failure_starts_all_again(
    run: Launch, tmp_path: Path, capfd: pytest.CaptureFixture[str], failure: str, told: str
) -> None:
    run(f"""
if index == 1 and attempt < 3:
    {failure}
if attempt < 3:
    control.report("training", 5 * attempt)
    time.sleep(0.3)
    end(PeerLostError("lost worker 1"))
""")
    assert attempts(tmp_path) == [3, 3]
    narrated = [line for line in capfd.readouterr().err.splitlines() if line.startswith("optduel: ")]
    assert len(narrated) == 2
    assert all(told in line for line in narrated)
    assert [line.partition("(restart ")[2] for line in narrated] == ["1 of 5)", "2 of 5)"]


def test_a_worker_that_ends_without_a_report_is_told_by_its_last_exception(run: Launch) -> None:
    """And not by what it printed after it, or `see its last lines`."""
    words = r"worker 0 of 1 exited with code 1, while starting, after step 0: ModuleNotFoundError: no x$"
    with pytest.raises(LaunchError, match=words):
        run("import atexit; atexit.register(print, 'bye')\nraise ModuleNotFoundError('no x')", workers=1)


def test_restarts_are_bounded(run: Launch, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"cut off. It was restarted compute.restarts = 3 times"):
        run("control.report('training', attempt)\nend(LaunchError('cut off'))", restarts=3)
    assert attempts(tmp_path) == [4, 4]


def test_a_crash_loop_is_recognized(run: Launch, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="killed by SIGSEGV.* The last 3 attempts all ended at step 70"):
        run("control.report('training', 70 if attempt > 1 else 0); os.kill(os.getpid(), 11)", restarts=100)
    assert attempts(tmp_path) == [4, 4]


def test_a_preempted_worker_s_group_is_restarted_without_counting(run: Launch, tmp_path: Path) -> None:
    run("control.report('training', attempt)\nif attempt < 5: end(StoppedError('saved'))", restarts=0)
    assert attempts(tmp_path) == [5, 5]


def test_who_hangs_is_killed_with_its_group(run: Launch, tmp_path: Path) -> None:
    """A supervisor that is stopped keeps no deadline of its own."""
    began = time.monotonic()
    with pytest.raises(LaunchError, match=r"worker 1 of 2: hangs: no progress .* while saving, after step 9"):
        run(
            """
(folder / f"pid-{index}").write_text(str(os.getpid()))
control.report("saving", 9)
if index == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
while True:
    control.report("saving", 9)
    time.sleep(0.05)
""",
            progress_seconds=0.5,
            restarts=0,
        )
    assert time.monotonic() - began < 10
    assert not any(is_running(int(path.read_text())) for path in tmp_path.glob("pid-*"))


def test_who_does_not_start_is_killed_with_its_group(run: Launch) -> None:
    words = r"worker 0 of 2: did not start within twice compute.start_seconds = 0.8"
    with pytest.raises(LaunchError, match=words):
        run(
            "if index == 0: time.sleep(600)\ncontrol.report('training', 1)\ntime.sleep(600)",
            start_seconds=0.8,
            restarts=0,
        )


def test_peers_and_the_training_process_have_the_time_to_start_each(run: Launch) -> None:
    run("time.sleep(3.5)\ncontrol.report('training', 1)", start_seconds=3, restarts=0)


def test_a_frozen_supervisor_is_noticed_while_training_goes_on(
    run: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "FROZEN_SECONDS", 0.5)
    with pytest.raises(LaunchError, match=r"worker 0 of 1: frozen: its supervisor gave no sign for 0.5 s"):
        run(
            "control._file.beat(3)\nwhile True: control.report('training', 1); time.sleep(0.05)",
            workers=1,
            restarts=0,
        )


def test_a_command_that_cannot_be_run_is_told(
    task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/absent/python")
    with pytest.raises(LaunchError, match="worker 0 of 1: /absent/python cannot be run"):
        LocalLauncher().run(task(1))


LAUNCHER = """
import sys
from optduel.components.settings.authoring import decode
from optduel.components.core.errors import exit_on_error
from optduel.components.train.local.local_launcher import LocalLauncher
from optduel.components.train.contract.task import Task
task = decode(Task, sys.argv[1], "task")
sys.executable = sys.argv[2]
with exit_on_error("train"):
    LocalLauncher().run(task)
"""

REAL_WORKER = """
from optduel.components.train.worker import worker
sys.executable = {trainer!r}
worker.main([sys.argv[-1]])
"""

# TensorFlow opens the worker's port, which its peers may still be waiting for.
TRAINER = """
import socket
listener = socket.create_server(("", int(os.environ["OPTDUEL_PEERS"].split(",")[index].partition(":")[2])))
control.follow(0)
control.report("training", 1)
(folder / f"pid-{index}").write_text(f"{os.getpid()} {os.getppid()}")
while not control.is_stop_requested:
    time.sleep(0.01)
end(StoppedError("saved at step 1"))
"""


@contextlib.contextmanager
def launcher_with_workers(folder: Path, task: Task) -> "Iterator[subprocess.Popen[str]]":
    worker = script(folder / "worker", REAL_WORKER.format(trainer=script(folder / "trainer", TRAINER)))
    command = [sys.executable, "-c", LAUNCHER, task.canonical_json(), worker]
    with ending(subprocess.Popen(command, stderr=subprocess.PIPE, text=True)) as launcher:
        wait_until(lambda: len([path for path in folder.glob("pid-*") if path.read_text()]) == 2)
        yield launcher


def pids(folder: Path) -> list[int]:
    return [int(pid) for path in folder.glob("pid-*") for pid in path.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_reaches_every_worker(
    task: Callable[..., Task], tmp_path: Path, number: signal.Signals
) -> None:
    with launcher_with_workers(tmp_path, task()) as launcher:
        launcher.send_signal(number)
        _, errors = launcher.communicate(timeout=30)
    assert launcher.returncode == 143
    assert errors.splitlines()[-1] == "train failed: saved at step 1"
    assert not any(map(is_running, pids(tmp_path)))


def test_workers_end_with_their_launcher(task: Callable[..., Task], tmp_path: Path) -> None:
    with launcher_with_workers(tmp_path, task()) as launcher:
        os.kill(launcher.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, pids(tmp_path))), 10)


@pytest.mark.slow
def test_a_group_runs_no_file_of_the_current_folder(
    make_task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts the launcher: the worker and the process that trains look elsewhere for modules."""
    hijacked, folder = tmp_path / "hijacked", tmp_path / "folder"
    for name in ("numpy.py", "random.py", "optduel.py", "components/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(
            f"from pathlib import Path; Path({str(hijacked)!r}).touch(); raise OSError"
        )
    monkeypatch.chdir(folder)
    task = make_task("trial", model={"name": "linear"}, epochs=1, compute={"restarts": 0})
    LocalLauncher().run(task)
    assert Path(task.model_file).is_file()
    assert not hijacked.exists()

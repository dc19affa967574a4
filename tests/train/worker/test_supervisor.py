"""The supervisor of a training process: real parents and children, deadlines of fractions of a second."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from optduel.components.core import StopRequest, read_termination
from optduel.components.settings import Compute
from optduel.components.train.contract.control import ProgressFile
from optduel.components.train.contract.lease import LeaseKeeper
from optduel.components.train.contract.task import Task
from optduel.components.train.worker import supervisor
from optduel.components.train.worker.supervisor import Supervisor
from tests.servers.starting import free_ports
from tests.train.processes import ending, is_running, script, wait_until

WORKER = """
import sys
from optduel.components.train.worker import worker
sys.executable = sys.argv[2]
worker.main([sys.argv[1]])
"""

Start = Callable[..., "contextlib.AbstractContextManager[subprocess.Popen[str]]"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Exists and is empty, as on Kubernetes."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


@pytest.fixture
def start(make_task: Callable[..., Task], tmp_path: Path, log: Path) -> Start:
    """Starts a real worker whose training process runs the given code."""

    def start(code: str, environment: dict[str, str] | None = None, **compute: float) -> object:
        task = make_task("trial")
        task = task.model_copy(update={"compute": task.compute.model_copy(update=compute)})
        task_file = tmp_path / "task.json"
        task_file.write_text(task.canonical_json())
        told = {"OPTDUEL_TERMINATION_LOG": str(log), "OPTDUEL_PROGRESS": str(tmp_path / "progress")}
        return ending(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(task_file), script(tmp_path / "trainer", code)],
                env=os.environ | told | (environment or {}),
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    return start


def pid_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


@pytest.mark.parametrize("code", [0, 64, 65, 69, 70, 75, 78, 137, 143])
def test_documented_codes_are_passed_on(start: Start, code: int, log: Path) -> None:
    with start(f"sys.exit({code})") as worker:
        assert worker.wait(30) == code
    assert log.read_text() == ""


@pytest.mark.parametrize(
    ("ending_of_child", "code", "error", "message"),
    [
        ("sys.exit(3)", 70, "TrainingError", "ended with code 3, a defect of optduel"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 75, "LaunchError", "killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 75, "LaunchError", "killed by SIGKILL"),
    ],
)
def test_every_other_end_gets_a_code_and_a_report(
    start: Start, log: Path, ending_of_child: str, code: int, error: str, message: str
) -> None:
    with start(f"control.report('validating', 12); {ending_of_child}") as worker:
        assert worker.wait(30) == code
    report = json.loads(log.read_text())
    where = "train sgd-l2, seed 0: worker 0 of 1, while validating, after step 12: "
    assert report.pop("message").startswith(where + message)
    assert report == {
        "stage": "train",
        "error": error,
        "exit_code": code,
        "worker": 0,
        "phase": "validating",
        "step": 12,
    }


def test_what_the_training_process_reported_stays(start: Start, log: Path) -> None:
    with start("write_termination('train', DataError('shard 3: broken'), {}); sys.exit(1)") as worker:
        assert worker.wait(30) == 70
    assert str(read_termination(log)) == "shard 3: broken"


def test_a_defect_shows_its_traceback_and_reports_its_last_line(start: Start, log: Path) -> None:
    code = """
from optduel.components.train.worker import trainer
trainer.decode = lambda *_: {}["absent"]
trainer.main([__file__])
"""
    with start(code) as worker:
        _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 70
    assert "Traceback" in errors
    assert "a defect of optduel: KeyError: 'absent'" in str(read_termination(log))


def test_a_process_that_does_not_start_is_killed(start: Start, log: Path) -> None:
    began = time.monotonic()
    with start("sleep_with_interpreter_locked()", start_seconds=1.0) as worker:
        assert worker.wait(30) == 75
    assert time.monotonic() - began < 5
    assert "did not start within compute.start_seconds = 1, while starting" in str(read_termination(log))


def test_what_peers_took_is_not_taken_from_the_time_to_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: time.perf_counter() + offset)
    offset = 0.0
    with contextlib.closing(ProgressFile(tmp_path / "progress")) as progress:
        supervised = Supervisor("worker 0", Compute(start_seconds=6), progress, StopRequest())
        offset = 5.9  # passes while it waits for peers
        supervised.tick()
        assert supervised.run([sys.executable, "-c", "import time; time.sleep(0.5)"], os.environ) == 0


@pytest.mark.parametrize("hang", ["sleep_with_interpreter_locked()", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_process_that_hangs_is_killed_with_all_its_own(
    start: Start, log: Path, tmp_path: Path, hang: str
) -> None:
    code = f"""
grandchild = subprocess.Popen(["sleep", "600"])
(folder / "pids").write_text(f"{{os.getpid()}} {{grandchild.pid}}")
control.report("saving", 7)
{hang}
"""
    with start(code, progress_seconds=0.5) as worker:
        assert worker.wait(30) == 75
    message = "hangs: no progress within compute.progress_seconds = 0.5, while saving, after step 7; killed"
    assert message in str(read_termination(log))
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=pid: not is_running(int(pid)), 5)


def test_a_process_that_reports_may_take_its_time(start: Start) -> None:
    code = """
for _ in range(15):
    control.report("training", 7)
    time.sleep(0.1)
"""
    with start(code, progress_seconds=0.5, start_seconds=0.9) as worker:
        assert worker.wait(30) == 0


OBEDIENT = """
control.follow(0)
control.report("training", 1)
(folder / "pid").write_text(str(os.getpid()))
while not control.is_stop_requested:
    time.sleep(0.01)
time.sleep(0.5)
(folder / "saved").touch()
end(StoppedError("saved at step 1"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_reaches_the_process_and_another_changes_nothing(
    start: Start, log: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with start(OBEDIENT) as worker:
        pid_in(tmp_path / "pid")
        for _ in range(3):
            worker.send_signal(number)
            time.sleep(0.1)
        assert worker.wait(30) == 143
    assert (tmp_path / "saved").exists()
    assert str(read_termination(log)) == "saved at step 1"


def test_a_process_that_does_not_save_in_time_is_killed(start: Start, log: Path, tmp_path: Path) -> None:
    with start(OBEDIENT, grace_seconds=0.2) as worker:
        pid = pid_in(tmp_path / "pid")
        worker.terminate()
        assert worker.wait(30) == 75
    assert not is_running(pid)
    assert not (tmp_path / "saved").exists()
    assert "has not saved within compute.grace_seconds = 0.2" in str(read_termination(log))


def test_before_the_first_step_a_stop_takes_no_time(start: Start, log: Path, tmp_path: Path) -> None:
    with start("(folder / 'pid').write_text(str(os.getpid())); sleep_with_interpreter_locked()") as worker:
        pid = pid_in(tmp_path / "pid")
        worker.terminate()
        assert worker.wait(3) == 143
    assert not is_running(pid)
    assert "stopped before the first step; nothing was lost" in str(read_termination(log))


def test_while_shards_arrive_a_stop_takes_no_time(start: Start, log: Path, tmp_path: Path) -> None:
    code = """
for _ in range(3000):
    control.report("staging", 0)
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(0.2)
"""
    with start(code, grace_seconds=30) as worker:
        pid = pid_in(tmp_path / "pid")
        worker.terminate()
        assert worker.wait(3) == 143
    assert not is_running(pid)
    assert "stopped before the first step; nothing was lost" in str(read_termination(log))


TRAINER = """
from optduel.components.train.worker import trainer
def hang(*_):
    (folder / 'pid').write_text(str(os.getpid()))
    {hang}
trainer.decode = hang
{other_tie}
trainer.main([__file__])
"""
"""The training process's own `main`, which begins, and then hangs where it reads its task."""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part of the promise is Linux's")
@pytest.mark.parametrize(
    ("hang", "other_tie"),
    [
        ("sleep_with_interpreter_locked()", ""),
        ("time.sleep(600)", "import ctypes; ctypes.CDLL = lambda _: type('', (), {'prctl': print})"),
    ],
    ids=["kernel", "standard-input"],
)
def test_a_process_ends_with_its_supervisor(start: Start, tmp_path: Path, hang: str, other_tie: str) -> None:
    """By each of two ties alone: no thread runs while TensorFlow holds the lock, and prctl is Linux's."""
    with start(TRAINER.format(hang=hang, other_tie=other_tie)) as worker:
        pid = pid_in(tmp_path / "pid")
        worker.kill()
        wait_until(lambda: not is_running(pid), 5)


def test_a_worker_ends_with_its_launcher(start: Start, log: Path, tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "600"])
    with ending(sleeper):
        code = "(folder / 'pid').write_text(str(os.getpid())); time.sleep(600)"
        with start(code, {"OPTDUEL_LAUNCHER_PID": str(sleeper.pid)}) as worker:
            assert worker.wait(10) == 75
    assert f"process {sleeper.pid}, which started it, is gone" in str(read_termination(log))


def test_a_stranger_s_tf_config_is_not_believed(start: Start, tmp_path: Path) -> None:
    code = "(folder / 'seen').write_text(repr(os.environ.get('TF_CONFIG')))"
    with start(code, {"TF_CONFIG": "{}"}) as worker:
        assert worker.wait(30) == 0
    assert (tmp_path / "seen").read_text() == "None"


def memory_cgroup(name: str, limit: int) -> Path:
    """A memory cgroup of version 1 or 2; skips where none can be made."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    root = Path("/sys/fs/cgroup") if unified.exists() else Path("/sys/fs/cgroup/memory")
    place = root / name
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    for setting, value in {
        "memory.limit_in_bytes": limit,
        "memory.memsw.limit_in_bytes": limit,
        "memory.max": limit,
        "memory.swap.max": 0,
    }.items():
        if (place / setting).exists():
            with contextlib.suppress(OSError):
                (place / setting).write_text(str(value))
    if not any((place / setting).exists() for setting in ("memory.limit_in_bytes", "memory.max")):
        place.rmdir()
        pytest.skip("the memory controller is not there")
    return place


def test_a_process_killed_for_want_of_memory_says_so(start: Start, log: Path, tmp_path: Path) -> None:
    place = memory_cgroup(f"optduel-test-{os.getpid()}", 150_000_000)
    code = """
while not (folder / "limited").exists():
    time.sleep(0.01)
hog = [bytes([1]) * 10_000_000 for _ in range(100)]
"""
    try:
        with start(code) as worker:
            wait_until(lambda: list_children(worker.pid))
            for pid in (worker.pid, *list_children(worker.pid)):
                (place / "cgroup.procs").write_text(str(pid))
            (tmp_path / "limited").touch()
            assert worker.wait(30) == 137
    finally:
        place.rmdir()
    assert "want of memory; lower training.global_batch_size" in str(read_termination(log))


def list_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


LEASE = {"OPTDUEL_LEASE_SECONDS": "1"}


def follow_until(folder: Path, condition: Callable[[], object]) -> None:
    """Renews the trial's lease until the condition is true, and leaves it."""
    with contextlib.suppress(InterruptedError), LeaseKeeper(str(folder / "trial/lease"), 1):
        wait_until(condition)
        raise InterruptedError


def test_a_training_that_nobody_follows_saves_and_ends(start: Start, log: Path, tmp_path: Path) -> None:
    with start(OBEDIENT, LEASE) as worker:
        follow_until(tmp_path, (tmp_path / "pid").exists)
        assert worker.wait(30) == 69
    assert (tmp_path / "saved").exists()
    assert str(read_termination(log)) == (
        "train sgd-l2, seed 0: worker 0 of 1: saved and ended, while training, after step 1: no launcher has "
        f"renewed {tmp_path / 'trial' / 'lease'} for 1 s; the next attempt of the step goes on from the last "
        "checkpoint"
    )


def test_a_training_that_nobody_follows_ends_also_when_it_does_not_save(
    start: Start, log: Path, tmp_path: Path
) -> None:
    with start(OBEDIENT, LEASE, grace_seconds=0.2) as worker:
        follow_until(tmp_path, (tmp_path / "pid").exists)
        assert worker.wait(30) == 69
    assert "has not saved in time, while training, after step 1; killed" in str(read_termination(log))


def test_a_training_that_nobody_follows_ends_before_its_first_step(start: Start, log: Path) -> None:
    with start("sleep_with_interpreter_locked()", LEASE) as worker:
        assert worker.wait(30) == 69
    assert "ended before the first step" in str(read_termination(log))


def test_a_training_that_a_launcher_follows_goes_on(start: Start, tmp_path: Path, log: Path) -> None:
    """Twice as long as the lease lasts; its own end is what is told."""
    code = "control.report('training', 1); time.sleep(3)"
    with LeaseKeeper(str(tmp_path / "trial/lease"), 2), start(code, {"OPTDUEL_LEASE_SECONDS": "2"}) as worker:
        assert worker.wait(30) == 0
    assert log.read_text() == ""


@pytest.mark.parametrize("told", ["soon", "nan"])
def test_a_lease_of_no_length_is_refused(start: Start, log: Path, told: str) -> None:
    with start("sys.exit(0)", {"OPTDUEL_LEASE_SECONDS": told}) as worker:
        assert worker.wait(30) == 78
    assert f"OPTDUEL_LEASE_SECONDS = {told!r}: must be a number of seconds" in str(read_termination(log))


Group = Callable[..., "contextlib.AbstractContextManager[list[subprocess.Popen[str]]]"]


@pytest.fixture
def start_group(make_task: Callable[..., Task], tmp_path: Path) -> Group:
    """Starts some workers of a group."""

    @contextlib.contextmanager
    def start(
        code: str,
        indices: Sequence[int],
        workers: int,
        told: Mapping[str, str] | None = None,
        **compute: float,
    ) -> Iterator[list[subprocess.Popen[str]]]:
        task = make_task("trial", workers=workers, compute=compute)
        (tmp_path / "task.json").write_text(task.canonical_json())
        trainer = script(tmp_path / "trainer", code)
        peers = ",".join(f"127.0.0.1:{port}" for port in free_ports(workers))
        with contextlib.ExitStack() as stack:
            started = []
            for index in indices:
                own = {
                    "OPTDUEL_PEERS": peers,
                    "OPTDUEL_WORKER_INDEX": str(index),
                    "OPTDUEL_TERMINATION_LOG": str(tmp_path / f"log-{index}"),
                    "OPTDUEL_PROGRESS": str(tmp_path / f"progress-{index}"),
                }
                command = [sys.executable, "-c", WORKER, str(tmp_path / "task.json"), trainer]
                process = subprocess.Popen(command, env=os.environ | own | (told or {}), text=True)
                started.append(stack.enter_context(ending(process)))
            yield started

    return start


def test_a_worker_that_does_not_come_is_named_by_each_of_its_peers(
    start_group: Group, tmp_path: Path
) -> None:
    with start_group("sys.exit(0)", [0, 2], 4, start_seconds=3.0) as workers:
        assert [worker.wait(60) for worker in workers] == [75, 75]
    for index in (0, 2):
        told = str(read_termination(tmp_path / f"log-{index}"))
        assert "2 of 4 workers did not answer within compute.start_seconds = 3" in told
        for missing in (1, 3):
            assert f"worker {missing} (127.0.0.1:" in told
        assert "its port refuses connections: the worker does not run" in told


def test_all_workers_of_a_group_say_that_nobody_follows(start_group: Group, tmp_path: Path) -> None:
    """The chief alone watches; a worker that ends with 143 would let the cluster start the group again."""
    # The flag travels in the step's own all-reduce: here in a file.
    code = """
import socket
listener = socket.create_server(("", int(os.environ["OPTDUEL_PEERS"].split(",")[index].partition(":")[2])))
control.follow(0)
control.report("training", 1)
(folder / f"trains-{index}").touch()
while not (control.is_stop_requested or (folder / "flag").exists()):
    time.sleep(0.01)
(folder / "flag").touch()
end(StoppedError("saved at step 1"))
"""
    with start_group(code, [0, 1], 2, LEASE) as workers:
        follow_until(tmp_path, lambda: len(list(tmp_path.glob("trains-*"))) == 2)
        assert [worker.wait(30) for worker in workers] == [69, 69]
    for index in range(2):
        assert "no launcher has renewed" in str(read_termination(tmp_path / f"log-{index}"))

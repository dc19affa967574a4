"""A local run that is told to stop: its tasks end, none begins after that, and the record says so."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kfp.local import subprocess_task_handler

from optduel.pipeline.local.interrupts import Interrupted, stopped_by_signals
from optduel.pipeline.local.tasks import LocalTasks, in_processes
from tests.train.processes import ending, wait_until

COMMAND = [
    sys.executable,
    "-c",
    "from optduel.pipeline.cli import entry; entry()",
    "run",
    "digits",
]
ENDLESS = ["--set", "training.epochs=10000", "--set", "tuning=null"]
MARK = "OPTDUEL_TEST_MARK"
"""An environment variable, which all processes of a run inherit."""


@contextlib.contextmanager
def running(root: Path) -> Iterator[subprocess.Popen[str]]:
    """`optduel run digits`, six seeds of each arm, longer than any test waits."""
    process = subprocess.Popen(
        [*COMMAND, "--root", str(root), *ENDLESS],
        env={**os.environ, MARK: str(root)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        yield process


def processes_of(root: Path) -> list[str]:
    """The command lines of a run's processes."""
    mark = f"{MARK}={root}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                found.append(environment.with_name("cmdline").read_text().replace("\0", " "))
    return found


def log_of(root: Path) -> str:
    (log,) = root.glob("runs/*/run.log")
    return log.read_text()


def read_to(process: subprocess.Popen[str], beginning: str) -> str:
    """What a run says up to the first line that begins so."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith(beginning):
            return said
    raise AssertionError(f"the run ended before a line that begins with {beginning!r}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("prepare: ", signal.SIGHUP),
        ("train ", signal.SIGTERM),
        *(
            pytest.param(stage, number, marks=pytest.mark.exhaustive)
            for stage, number in (
                ("prepare: ", signal.SIGINT),
                ("prepare: ", signal.SIGTERM),
                ("train ", signal.SIGINT),
                ("train ", signal.SIGHUP),
            )
        ),
    ],
)
def test_a_signal_ends_the_tasks_and_begins_no_other(
    number: signal.Signals, stage: str, tmp_path: Path
) -> None:
    # To the command alone, as `kill` and `timeout` send it: nothing else tells the tasks.
    with running(tmp_path) as process:
        said = read_to(process, stage)
        assert len(processes_of(tmp_path)) > 1
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stderr is not None
        said += process.stderr.read()
    assert said.endswith(f"optduel: stopped by {number.name}\n")
    assert "tensorflow" not in said.lower(), "what libraries say when they are imported is for the log"
    assert processes_of(tmp_path) == []
    (record,) = tmp_path.glob("runs/*/run.json")
    told = json.loads(record.read_text())
    assert (told["status"], told["error"]) == ("failed", f"stopped by {number.name}")
    log = log_of(tmp_path)
    assert "seed 2" not in log, "two trials run at a time, and four more were waiting"
    assert "evaluate adamw" not in log


def execute(code: str) -> int:
    """A task of KFP's local runner in a process."""
    return subprocess_task_handler.run_local_subprocess([sys.executable, "-c", code])


STUBBORN = """
import signal, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: Path({folder!r}, "asked").touch())
Path({folder!r}, "ready").touch()
while True:
    time.sleep(0.01)
"""


def test_a_second_signal_kills_a_task_that_does_not_end(tmp_path: Path) -> None:
    codes = []
    thread = threading.Thread(target=lambda: codes.append(execute(STUBBORN.format(folder=str(tmp_path)))))
    tasks = LocalTasks()

    def interrupted() -> None:
        with stopped_by_signals(tasks), in_processes(tasks):
            ask_twice()

    def ask_twice() -> None:
        thread.start()
        wait_until((tmp_path / "ready").exists)
        os.kill(os.getpid(), signal.SIGINT)
        wait_until((tmp_path / "asked").exists)
        assert thread.is_alive()
        os.kill(os.getpid(), signal.SIGTERM)
        thread.join(30)

    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        interrupted()
    assert codes == [-signal.SIGKILL]


def test_tasks_leave_no_temporary_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with in_processes(LocalTasks()):
        execute("import tempfile; print(tempfile.mkdtemp())")
        left = Path(capsys.readouterr().out.strip())
        assert left.is_dir()
    assert not left.exists()


def test_nothing_is_begun_after_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = tmp_path / "begun"
    touch = f"from pathlib import Path; Path({str(begun)!r}).touch()"
    with in_processes(LocalTasks()):
        assert execute("print('said')") == 0
        assert execute("raise SystemExit(3)") == 3
        assert execute(touch) == 75
    assert not begun.exists()
    assert capsys.readouterr().out == "said\nnot begun: another task has failed, or the run is stopped\n"


def test_a_task_that_nobody_listens_to_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            assert processes_of(tmp_path)
            raise ValueError("closed")

    monkeypatch.setenv(MARK, str(tmp_path))
    with (
        in_processes(LocalTasks()),
        contextlib.redirect_stdout(Closed()),
        pytest.raises(ValueError, match="closed"),
    ):
        execute("import time; print(1, flush=True); time.sleep(600)")
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("end", [LocalTasks.stop, LocalTasks.kill])
def test_nothing_is_begun_after_a_stop(end: Callable[[LocalTasks], None]) -> None:
    tasks = LocalTasks()
    with in_processes(tasks):
        assert execute("") == 0
        end(tasks)
        assert execute("") == 75


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals(LocalTasks()):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with contextlib.suppress(ZeroDivisionError), stopped_by_signals(LocalTasks()):
        assert signal.getsignal(signal.SIGINT) is not before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before

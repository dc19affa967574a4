"""The processes of a local run's tasks: whose code they run, where Python may lie, and when they end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import dsl, local

from optduel.pipeline.local.tasks import LocalTasks, in_processes
from tests.pipeline.test_interrupts import MARK, execute, processes_of
from tests.train.processes import ending, wait_until

HOSTILE = "from pathlib import Path; Path({mark!r}).touch(); raise ImportError('hijacked')"


@pytest.fixture
def hijacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder holds modules of names that we import; the file is there once one has run."""
    mark, folder = tmp_path / "hijacked", tmp_path / "folder"
    for name in ("numpy.py", "random.py", "kfp.py", "optduel.py", "components/__init__.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HOSTILE.format(mark=str(mark)))
    monkeypatch.chdir(folder)
    yield mark
    assert not mark.exists()


@dsl.component(base_image="python", install_kfp_package=False)
def import_what_others_shadow(said: str) -> str:
    import random

    import numpy as np

    assert random.random() < 1
    return f"{said} {np.arange(2).sum()}"


def run_component(folder: Path) -> str:
    """Runs a component as a local run does; returns its output."""

    @dsl.pipeline(name="safe")
    def pipeline() -> str:
        return import_what_others_shadow(said="hello").output  # type: ignore[no-any-return]

    with in_processes(LocalTasks()):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "tasks"))
        return str(pipeline().output)


def test_a_task_runs_no_file_of_the_current_folder(hijacked: Path, tmp_path: Path) -> None:
    assert run_component(tmp_path) == "hello 1"


def test_python_may_lie_below_a_folder_with_spaces_and_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "my 'own' $HOME projects" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert run_component(tmp_path) == "hello 1"


KILLED = """
import os, signal, threading
from pathlib import Path
from kfp.local import subprocess_task_handler
from optduel.pipeline.local.tasks import LocalTasks, in_processes
task = (
    "import os, signal, subprocess, sys; from pathlib import Path;"
    "[signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)];"
    "child = subprocess.Popen(['sleep', '600']);"
    "Path({ready!r}).touch(); child.wait()"
)
with in_processes(LocalTasks()):
    subprocess_task_handler.run_local_subprocess([{python!r}, "-c", task])
"""


@pytest.mark.parametrize("asked", [False, True])
def test_tasks_end_with_a_run_that_is_killed(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they were asked to stop before, and heed nothing."""
    monkeypatch.setenv(MARK, str(tmp_path))
    ready = tmp_path / "ready"
    code = KILLED.format(ready=str(ready), python=sys.executable)
    with ending(subprocess.Popen([sys.executable, "-c", code], text=True)) as run:
        wait_until(ready.exists)
        (shell,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        if asked:
            os.killpg(int(shell), signal.SIGTERM)
        run.kill()
        run.wait()
        wait_until(lambda: not processes_of(tmp_path), 10)


def test_a_task_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    left = "import subprocess; subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL, stderr=-3)"
    with in_processes(LocalTasks()):
        assert execute(left) == 0
        wait_until(lambda: not processes_of(tmp_path), 10)

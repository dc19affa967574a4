"""What a run holds while it lives, and what is seen and cleaned when it was killed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.core import LaunchError, StorageError
from optduel.components.storage import publish
from optduel.pipeline.cli.shipped import load_experiment
from optduel.pipeline.local import run as local_run
from optduel.pipeline.local.containers import hand_over
from optduel.pipeline.local.run import Run, load_run, run_experiment
from optduel.pipeline.local.scratch import create_held, is_held, scratch_folder
from optduel.pipeline.local.tasks import LocalTasks, in_processes
from tests.pipeline.test_interrupts import execute
from tests.train.processes import ending

HOLDER = """
import sys, time
from pathlib import Path
from optduel.pipeline.local.scratch import create_held, scratch_folder
create_held(Path(sys.argv[1]))
with scratch_folder() as scratch:
    (scratch / "inner").mkdir()
    (scratch / "inner" / "file").touch()
    print(scratch, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_held_is_free_and_cleaned_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    log = tmp_path / "run.log"
    command = [sys.executable, "-c", HOLDER, str(log)]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        assert is_held(log)
        with scratch_folder() as mine:
            assert left.is_dir(), "it is in use"
        assert not mine.exists()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert not is_held(log)
    assert left.is_dir()
    with scratch_folder():
        assert not left.exists()


def test_folders_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "optduel-run-link").symlink_to(target)
    (tmp_path / "optduel-run-file").touch()
    with scratch_folder():
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"target", "optduel-run-link", "optduel-run-file"}


def record(folder: Path, **fields: object) -> None:
    experiment = load_experiment("digits")
    run = Run(experiment=experiment, fingerprint=experiment.fingerprint, code_version="1", started="now")
    publish(folder / "run.json", run.model_copy(update=fields).canonical_json().encode())


def test_a_run_whose_process_is_gone_is_not_running(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    held = create_held(log)
    record(tmp_path, holder=(local_run.this_machine(), str(log)))
    assert load_run(str(tmp_path)).status == "running"
    os.close(held)
    told = load_run(str(tmp_path))
    assert (told.status, told.error) == ("failed", "its process is gone: it was killed")
    log.unlink()
    assert load_run(str(tmp_path)).status == "failed", "as after a restart of the machine"


def test_a_run_of_another_machine_may_run(tmp_path: Path) -> None:
    record(tmp_path, holder=("elsewhere-0", str(tmp_path / "run.log")))
    assert load_run(str(tmp_path)).status == "running"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_root_without_hard_links(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    publish(tmp_path / "a", b"x", if_absent=True)
    with pytest.raises(StorageError, match="exists already"):
        publish(tmp_path / "a", b"y", if_absent=True)
    assert (tmp_path / "a").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def failing(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Every task runs this code in place of KFP's."""

    def execute_it(*_: object, **__: object) -> dict[str, Path]:
        with in_processes(tasks := LocalTasks()):
            execute(code)
        raise LaunchError(tasks.last_words)

    monkeypatch.setattr(local_run, "_execute", execute_it)


def test_a_log_that_somebody_else_has_put_there_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "precious"
    target.write_text("before")
    claim = local_run._claim

    def claimed(root: str, run: Run) -> str:
        name = claim(root, run)
        Path(root, "runs", name, "run.log").symlink_to(target)
        return name

    monkeypatch.setattr(local_run, "_claim", claimed)
    with pytest.raises(StorageError, match=r"run\.log: File exists"):
        run_experiment(load_experiment("digits"), str(tmp_path / "root"))
    assert target.read_text() == "before"


def test_a_folder_that_stands_there_is_no_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "pass")
    made: list[str] = []
    experiment = load_experiment("digits")
    run = Run(experiment=experiment, fingerprint=experiment.fingerprint, code_version="1", started="now")
    made.append(local_run._claim(str(tmp_path), run))
    ahead = Path(tmp_path, "runs", made[0] + "-2")
    ahead.mkdir()
    made += [local_run._claim(str(tmp_path), run) for _ in range(2)]
    assert len(set(made)) == 3
    assert ahead.name not in made
    assert not list(ahead.iterdir())


def test_a_claim_that_fails_leaves_no_empty_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(local_run, "publish", full)
    with pytest.raises(StorageError, match="no space left"):
        run_experiment(load_experiment("digits"), str(tmp_path))
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("print('said'); raise ValueError('a\\nb')", "ValueError: a"),
        ("print('only this'); raise SystemExit(3)", "only this"),
        ("raise SystemExit(3)", "exit code 3"),
        (
            "import logging\ntry: 1/0\nexcept Exception: logging.exception('x')\nraise KeyError(1)",
            "KeyError: 1",
        ),
    ],
)
def test_the_last_words_of_a_failed_task_are_told(code: str, words: str) -> None:
    tasks = LocalTasks()
    with in_processes(tasks):
        assert execute("print('sound')") == 0
        assert tasks.last_words == ""
        execute(code)
        execute("raise OSError('later')")
    assert tasks.last_words == words


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_root_gives_away_nothing_but_our_own_folders(tmp_path: Path) -> None:
    ours = [
        "datasets",
        "datasets/digits",
        f"datasets/digits/{'0f' * 32}",
        "index",
        "runs/mine/tasks",
        "trials",
        "tuned",
        "champions/mine/history",
    ]
    others = ["home", "home/somebody", "datasets/theirs/deep", "runs/other", "elsewhere"]
    for name in (*ours, *others):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "datasets" / "digits" / ("1e" * 32)).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    hand_over(tmp_path, "mine")
    given = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.lstat().st_uid == 65532}
    assert given == {*ours, "runs/mine", "champions", "champions/mine"}
    assert tmp_path.stat().st_uid == 0

"""Whole runs whose tasks are containers, by KFP's runner for docker on podman's API."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.history import read_history
from pipeline.cli import main
from tests.cluster.containers.podman import Podman
from tests.train.conftest import largest_deviation
from tests.train.processes import ending, wait_until

SHORT = ["--set", "training.epochs=2", "--set", "study.seeds=[0, 1]"]

Answer = tuple[int, str, str]


@pytest.fixture
def command(
    docker_host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs `optduel ARGUMENT...` with podman's API as the engine; returns its code, output and narration."""
    monkeypatch.setenv("DOCKER_HOST", docker_host)

    def run(*arguments: str) -> Answer:
        code = main(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def histories(run: Path) -> dict[str, Path]:
    """The history of each trial of a run, by arm and seed."""
    found = {}
    for record in (run / "tasks").rglob("model/training.json"):
        told = json.loads(record.read_text())
        found[f"{told['arm']}-{told['seed']}"] = record.with_name("history.jsonl")
    return found


@pytest.mark.slow
def test_the_digits_run_gives_the_same_histories_in_containers(
    command: Callable[..., Answer], podman: Podman, image: str, tmp_path: Path
) -> None:
    runs = {}
    for place, options in (("processes", ()), ("containers", ("--image", image))):
        code, out, err = command("run", "digits", "--root", str(tmp_path / place), *SHORT, *options, "--json")
        assert code == 0, err
        runs[place] = Path(json.loads(out)["run"])
    assert (runs["containers"] / "report.html").stat().st_uid == os.getuid()
    records = list((tmp_path / "containers" / "datasets").rglob("manifest.json"))
    assert [path.stat().st_uid for path in records] == [65532]
    expected, found = histories(runs["processes"]), histories(runs["containers"])
    assert sorted(expected) == sorted(found) == ["adamw-0", "adamw-1", "sgd-l2-0", "sgd-l2-1"]
    for name, history in expected.items():
        deviation = largest_deviation(read_history(str(history)), read_history(str(found[name])))
        assert deviation < 1e-5, f"{name}: {deviation}"
    assert podman.run("ps", "--all", "--quiet", "--filter", "label=optduel.run").stdout == ""


@pytest.mark.slow
def test_a_task_that_fails_in_a_container_tells_why(
    command: Callable[..., Answer], image: str, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "empty").mkdir(parents=True)
    source = f"data.source={{kind: folder, path: {photos}}}"
    root = str(tmp_path / "study")
    code, _, err = command("run", "digits", "--root", root, "--image", image, "--set", source)
    assert code == 2
    assert str(photos) in err.splitlines()[-1]


@pytest.mark.slow
def test_an_interrupt_leaves_no_container(
    podman: Podman, docker_host: str, image: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "from pipeline.cli import entry; entry()", "run", "digits"]
    process = subprocess.Popen(
        [*command, "--root", str(tmp_path / "study"), "--image", image],
        env={**os.environ, "DOCKER_HOST": docker_host},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        assert process.stderr is not None
        assert "prepare: " in process.stderr.readline()
        wait_until(lambda: podman.run("ps", "--quiet", "--filter", "label=optduel.run").stdout, 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert podman.run("ps", "--all", "--quiet", "--filter", "label=optduel.run").stdout == ""


def test_an_image_that_the_engine_has_not_is_refused_before_anything_is_made(
    command: Callable[..., Answer], tmp_path: Path
) -> None:
    root = tmp_path / "study"
    code, _, err = command("run", "digits", "--root", str(root), "--image", "localhost/none-such:1")
    assert code == 2
    assert "--image = localhost/none-such:1: the container engine has no such image" in err
    assert not root.exists()


def test_containers_need_a_root_on_this_machine(command: Callable[..., Answer], image: str) -> None:
    code, _, err = command("run", "digits", "--root", "s3://bucket/studies", "--image", image)
    assert code == 2
    assert "--root = s3://bucket/studies: with --image it must be a folder of this machine" in err

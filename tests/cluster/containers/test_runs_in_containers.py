"""Whole runs whose tasks are containers, by KFP's runner for docker on podman's API."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import dsl, local

from components.core.experiment import DigitsSource
from components.core.history import read_history
from pipeline.cli import main
from pipeline.containers import docker_runner
from tests.cluster.containers.podman import Podman
from tests.train.conftest import reproducible
from tests.train.processes import ending, wait_until

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


def histories(run: Path) -> dict[str, str]:
    """The history of each trial of a run, by arm and seed."""
    found = {}
    for record in (run / "tasks").rglob("model/training.json"):
        told = json.loads(record.read_text())
        rows = read_history(str(record.with_name("history.jsonl")))
        found[f"{told['arm']}-{told['seed']}"] = reproducible(rows)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_digits_run_gives_the_same_bits_in_containers(
    command: Callable[..., Answer], podman: Podman, image: str, tmp_path: Path
) -> None:
    # To the last bit: `digits` trains on one thread, and the image holds the wheels that are installed here.
    verdicts, runs = [], []
    for place, options in (("processes", ()), ("containers", ("--image", image))):
        code, out, err = command("run", "digits", "--root", str(tmp_path / place), *options, "--json")
        assert code == 0, err
        answer = json.loads(out)
        verdicts.append(answer["comparison"])
        runs.append(Path(answer["run"]))
    assert (runs[1] / "report.html").stat().st_uid == os.getuid()
    records = tmp_path / "containers" / "datasets"
    assert [path.stat().st_uid for path in records.rglob("manifest.json")] == [65532]
    assert contents(records) == contents(tmp_path / "processes" / "datasets")
    expected = histories(runs[0])
    assert len(expected) == 12
    assert histories(runs[1]) == expected
    assert verdicts[0] == verdicts[1]
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


def test_a_containers_last_line_and_its_exit_code_are_not_lost(
    docker_host: str,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_host)

    @dsl.container_component
    def failing() -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image=image, command=["sh", "-c", "echo last words; exit 3"])

    with docker_runner("run", tmp_path, DigitsSource(kind="digits"), tmp_path / "termination") as runner:
        local.init(runner, pipeline_root=str(tmp_path / "tasks"))
        for _ in range(3):
            with pytest.raises(RuntimeError, match="failing"):
                failing()
            assert "last words\n" in capsys.readouterr().out


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

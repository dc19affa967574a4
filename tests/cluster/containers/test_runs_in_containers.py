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

from optduel.components.results import read_history
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_experiment
from optduel.pipeline.local.containers import docker_runner
from optduel.pipeline.local.tasks import LocalTasks
from tests.cluster.containers.podman import Podman
from tests.train.conftest import reproducible
from tests.train.processes import ending, wait_until

Answer = tuple[int, str, str]

ENDLESS = ("--set", "training.epochs=10000", "--set", "tuning=null")


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
    for record in (run / "tasks").rglob("model/seed-*/training.json"):
        told = json.loads(record.read_text())
        rows = read_history(str(record.with_name("history.jsonl")))
        found[f"{told['arm']}-{told['seed']}"] = reproducible(rows)
    return found


def containers_of(podman: Podman, run: Path) -> str:
    return podman.run("ps", "--all", "--quiet", "--filter", f"label=optduel.run={run.name}").stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_digits_run_gives_the_same_bits_in_containers(
    command: Callable[..., Answer], podman: Podman, image: str, tmp_path: Path
) -> None:
    # To the last bit: `digits` trains on one thread, and the image holds the wheels that are installed here.
    fewer = ("--set", "tuning.trials=4", "--set", "study.seeds=[0,1,2]")
    verdicts, runs = [], []
    for place, options in (("processes", fewer), ("containers", (*fewer, "--image", image))):
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
    assert len(expected) == 6
    assert histories(runs[1]) == expected
    assert verdicts[0] == verdicts[1]
    assert containers_of(podman, runs[1]) == ""


@pytest.mark.exhaustive
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

    for attempt in range(3):
        termination, tasks = tmp_path / "termination", LocalTasks()
        run = f"run-{attempt}"
        with docker_runner(run, tmp_path, load_experiment("digits"), termination, tasks) as runner:
            local.init(runner, pipeline_root=str(tmp_path / "tasks"))
            with pytest.raises(RuntimeError, match="failing"):
                failing()
            assert "last words\n" in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["prepare: ", "train "])
def test_an_interrupt_removes_the_containers_and_starts_no_other(
    stage: str, podman: Podman, docker_host: str, image: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-c",
        "from optduel.pipeline.cli import entry; entry()",
        "run",
        "digits",
    ]
    root = tmp_path / "study"
    process = subprocess.Popen(
        [*command, "--root", str(root), "--image", image, *ENDLESS],
        env={**os.environ, "DOCKER_HOST": docker_host},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        assert process.stderr is not None
        assert any(line.startswith(stage) for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    (run,) = (root / "runs").iterdir()
    assert containers_of(podman, run) == ""
    log = (run / "run.log").read_text()
    assert "seed 2" not in log, "two trials run at a time, and four more were waiting"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_containers_of_a_run_that_is_killed_end_with_it(
    podman: Podman, docker_host: str, image: str, tmp_path: Path
) -> None:
    """They are the engine's children, not ours: nobody else would end them."""
    root = tmp_path / "study"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from optduel.pipeline.cli import entry; entry()", "run", "digits"),
            *("--root", str(root), "--image", image, *ENDLESS),
        ],
        env={**os.environ, "DOCKER_HOST": docker_host},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        assert process.stderr is not None
        assert any(line.startswith("train ") for line in process.stderr)
        (run,) = (root / "runs").iterdir()
        assert containers_of(podman, run) != ""
        process.kill()
        process.wait(60)
        wait_until(lambda: containers_of(podman, run) == "")


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

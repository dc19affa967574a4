"""What the double of Kubeflow Pipelines promises, of a real one: needs the image on the cluster's nodes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.pipeline.cli.command_line import main
from optduel.pipeline.kfp import following
from optduel.pipeline.kfp.connection import Access, Connection
from optduel.pipeline.kfp.following import find_run, state_of, workflow_of
from tests.cluster.containers.podman import IMAGE
from tests.cluster.control_plane.disposable import missing
from tests.cluster.control_plane.kubeflow_pipelines import Addresses, forwarded
from tests.train.processes import wait_until

QUICK = (
    *("--set", "tuning=null", "--set", "study.seeds=[0,1]", "--set", "training.epochs=1"),
    *("--deploy", "prepare.cpu=200m"),
)
SMALL = ("--deploy", "train={cpu: 500m, memory: 2Gi}", "--deploy", "evaluate={cpu: 500m, memory: 2Gi}")


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def kubeflow() -> Iterator[Addresses]:
    if reason := missing():
        pytest.skip(reason)
    if not IMAGE:
        pytest.skip("OPTDUEL_TEST_IMAGE names no image that the cluster's nodes have")
    with forwarded() as addresses:
        yield addresses


@pytest.fixture
def optduel(kubeflow: Addresses, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command at the UI's address: exit code, answer, narration."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--host", kubeflow.ui])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_is_told_to_its_end_and_read_at_both_addresses(kubeflow: Addresses, optduel: Command) -> None:
    code, out, err = optduel("submit", "digits", "--image", str(IMAGE), *QUICK, *SMALL, "--wait", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["verdict"]
    for arm in ("sgd-l2", "adamw"):
        for seed in (0, 1):
            assert f"train {arm} seed {seed}: succeeded" in err
    for address in (kubeflow.ui, kubeflow.api):
        connection = Connection(Access(host=address))
        connection.open()
        run = find_run(connection, answer["name"])
        assert state_of(run) == "SUCCEEDED"
        workflow = workflow_of(connection, run.run_id)
        for task in following.run_tasks(workflow):
            assert task.state == "SUCCEEDED"
            for pod in task.pods:
                assert following.log_of(connection, run.run_id, workflow, pod), (address, task.name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cancelled_run_is_cancelled(kubeflow: Addresses, optduel: Command) -> None:
    code, out, err = optduel("submit", "digits", "--image", str(IMAGE), *QUICK, *SMALL, "--json")
    assert code == 0, err
    run = json.loads(out)["run_id"]
    connection = Connection(Access(host=kubeflow.ui))
    connection.open()
    wait_until(lambda: bool(workflow_of(connection, run).nodes), 120)
    assert optduel("cancel", run)[0] == 0
    assert optduel("cancel", run)[0] == 2
    wait_until(lambda: state_of(find_run(connection, run)) == "CANCELLED", 300)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_schedule_is_replaced_under_a_running_run_which_tells_at_its_end(
    kubeflow: Addresses, optduel: Command, tmp_path: Path
) -> None:
    name, file = f"test-{os.getpid()}", tmp_path / "schedules.yaml"
    deploy = ["prepare.cpu=200m", *(f"{task}={{cpu: 500m, memory: 2Gi}}" for task in ("train", "evaluate"))]
    entry = {
        "name": name,
        "experiment": "digits",
        "image": str(IMAGE),
        "cron": "0 */5 * * * *",
        "deploy": deploy,
    }
    entry["alerts"] = {"secret_name": "a-secret-that-is-not-there"}

    def apply(epochs: int) -> None:
        settings = ["study.seeds=[0]", f"training.epochs={epochs}"]
        file.write_text(json.dumps({"schedules": [{**entry, "set": settings}]}))
        code, _, err = optduel("schedule", "apply", "-f", str(file))
        assert code == 0, err

    def last_run() -> str | None:
        found = {one["name"]: one for one in json.loads(optduel("schedule", "status", "--json")[1])}
        run: str | None = found[name]["last_run_id"]
        return run

    apply(1)
    wait_until(lambda: last_run() is not None, 500)
    run = str(last_run())
    apply(2)
    connection = Connection(Access(host=kubeflow.ui))
    connection.open()
    wait_until(lambda: state_of(find_run(connection, run)) == "SUCCEEDED", 1200)
    tasks = {task.name: task.state for task in following.run_tasks(workflow_of(connection, run))}
    assert tasks["tell"] == "SUCCEEDED"
    optduel("schedule", "pause", name)
    if (newest := str(last_run())) != run:
        optduel("cancel", newest)
    wait_until(lambda: optduel("schedule", "delete", name)[0] == 0, 600)

"""Two workers in containers with addresses of their own, as the runtime's manifest describes their pods."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.components.records import Records
from optduel.components.settings import canonical_json
from optduel.components.storage import publish
from optduel.components.train.contract.task import Task
from tests.cluster.containers.jobset import Ended, JobSet, give_to_workers
from tests.cluster.containers.podman import Podman
from tests.faults.conftest import make_task, uninterrupted
from tests.faults.groups import results
from tests.train.processes import wait_until

__all__ = ["uninterrupted"]

NOTICED_SECONDS = 60.0
"""The promise is 10 s for a dead process; the engine of a busy machine takes some itself."""


@pytest.fixture
def group(
    podman: Podman, image: str, records: Records, tmp_path: Path
) -> Iterator[Callable[[], tuple[Task, JobSet]]]:
    """Makes a task with its records in a shared folder, and the group that trains it."""
    shared = tmp_path / "volume"
    copied = shared / "records"
    shutil.copytree(records.location, copied)
    task = make_task(records.model_copy(update={"location": str(copied)}), shared / "trial")
    task_file = f"{task.output}/task.json"
    publish(task_file, task.canonical_json().encode())
    publish(task.lease_file, b"renewed by a launcher")
    give_to_workers(shared)
    network = f"optduel-{tmp_path.name}"
    with podman.network(network) as addresses:
        jobs = JobSet(podman, image, network, addresses[:2], shared, task_file)
        try:
            yield lambda: (task, jobs)
        finally:
            jobs.remove()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_killed_container_restarts_the_group_and_changes_no_number(
    group: Callable[[], tuple[Task, JobSet]], podman: Podman, uninterrupted: str
) -> None:
    task, jobs = group()
    jobs.start()
    checkpoints = Path(task.checkpoint_folder)
    wait_until(lambda: checkpoints.is_dir() and len(list(checkpoints.iterdir())) > 1, 120)
    podman.run("kill", "--signal=KILL", jobs.container(1))
    ended = jobs.wait(NOTICED_SECONDS)
    assert ended[1] == Ended(137, ""), "the kernel's word is all that is left of it"
    assert ended[0].code == 75, jobs.logs()
    told = json.loads(ended[0].message)
    assert (told["error"], told["exit_code"], told["worker"]) == ("PeerLostError", 75, 0)
    assert told["step"] > 0
    assert not Path(task.record_file).exists(), "it was killed too late"
    jobs.start()
    assert jobs.wait(180) == {0: Ended(0, ""), 1: Ended(0, "")}, jobs.logs()
    assert "goes on" in jobs.logs() or "resum" in jobs.logs(), jobs.logs()
    assert results(task) == uninterrupted


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_stopped_group_saves_and_says_so(group: Callable[[], tuple[Task, JobSet]], podman: Podman) -> None:
    task, jobs = group()
    jobs.start()
    checkpoints = Path(task.checkpoint_folder)
    wait_until(lambda: checkpoints.is_dir() and list(checkpoints.iterdir()), 120)
    podman.run("kill", "--signal=TERM", jobs.container(1))
    ended = jobs.wait(NOTICED_SECONDS)
    assert {end.code for end in ended.values()} == {143}, jobs.logs()
    assert {json.loads(end.message)["error"] for end in ended.values()} == {"StoppedError"}


@pytest.mark.slow
def test_a_wrong_task_ends_with_its_code(group: Callable[[], tuple[Task, JobSet]]) -> None:
    task, jobs = group()
    wrong = json.loads(task.canonical_json())
    wrong["training"]["epochs"] = -1
    publish(f"{task.output}/task.json", canonical_json(wrong).encode())
    jobs.start()
    ended = jobs.wait(NOTICED_SECONDS)
    assert {end.code for end in ended.values()} == {64}, jobs.logs()
    assert all("training.epochs" in json.loads(end.message)["message"] for end in ended.values())


@pytest.mark.slow
def test_granted_gpus_that_the_image_cannot_use_end_the_group(
    group: Callable[[], tuple[Task, JobSet]],
) -> None:
    _, jobs = group()
    jobs.start("--device=/dev/null:/dev/nvidia0", "--env=NVIDIA_VISIBLE_DEVICES=GPU-7c1d")
    ended = jobs.wait(NOTICED_SECONDS)
    assert {end.code for end in ended.values()} == {78}, jobs.logs()
    assert all("take the gpu image" in json.loads(end.message)["message"] for end in ended.values())

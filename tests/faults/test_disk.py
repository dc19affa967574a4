"""A full disk ends the run with the place named; with room again the run goes on."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from optduel.components.core import StorageError
from optduel.components.records import Records
from optduel.components.results import Row
from optduel.components.train.contract.control import Progress, ProgressFile
from tests.faults.conftest import STEPS, make_task
from tests.faults.groups import launched, results


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, timeout=30, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], timeout=30, check=True)


def fill(place: Path) -> Path:
    """Leaves not a byte."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_goes_on_with_room(
    disk: Path, records: Records, uninterrupted: str, forking_python: str
) -> None:
    task = make_task(records, disk / "trial", restarts=0)
    with launched(task, forking_python) as group:
        group.wait_for_step(STEPS // 4)
        ballast = fill(disk)
        assert group.wait() == 75, group.text()
    last = group.text().splitlines()[-1]
    assert last.startswith(f"train failed: {disk}/trial/"), group.text()
    assert "No space left on device" in last
    ballast.unlink()

    with launched(task, forking_python) as group:
        assert group.wait() == 0, group.text()
    assert "goes on after step" in group.text()
    assert results(task) == uninterrupted


def test_events_on_a_full_disk_name_their_folder(disk: Path, tmp_path: Path) -> None:
    from optduel.components.train.loop.recorder import Events

    numbers = dict.fromkeys(Row.model_fields, 1)
    row = Row.model_validate(numbers | {"event": "step", "split": "train"})
    events = Events(str(disk / "tensorboard"), tmp_path, [])
    fill(disk)

    def write() -> None:
        for _ in range(1000):
            events.add([row])
            events.publish()

    with pytest.raises(StorageError) as raised:
        write()
    assert str(raised.value).startswith(f"{disk}/tensorboard: No space left on device; free some space")


def test_progress_is_seen_on_a_full_disk(disk: Path) -> None:
    file = ProgressFile(disk / "progress")
    fill(disk)
    for step in range(100):
        file.report(Progress("training", step, step + 1))
        file.beat(step)
    assert (file.progress().step, file.beats()) == (99, 99)
    file.close()

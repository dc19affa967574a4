"""Data that takes long to arrive is progress: supervisors see bytes of every worker, not whole shards."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from optduel.components.records import Records, StagedRecords, stage
from optduel.components.storage import Upload, upload
from optduel.components.train.contract.control import STAGING, Control
from optduel.components.train.loop.arrival import Arrival
from tests.faults.conftest import make_task
from tests.faults.proxy import Fault
from tests.records.test_reader import write_raw
from tests.servers.places import Place
from tests.train.processes import wait_until


def alone(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values)


def test_half_a_shard_is_told_to_the_supervisor(place: Place, staging: Path, tmp_path: Path) -> None:
    """Three megabytes, of which the first half comes; the rest waits until that has been told."""
    local = write_raw(tmp_path, shard_count=1, rows=10, side=316)
    records = Records(location=f"{place.root}/made", manifest=local.manifest)
    (shard,) = local.manifest.splits["train"].shards
    upload([Upload(local.path(shard), records.place(shard))])
    first, rest = threading.Event(), threading.Event()
    content = {"methods": ("GET",), "pattern": rf"{shard.file}.*alt=media|/made/{shard.file}$"}
    half = place.proxy.inject(Fault(before=lambda: _wait(first), cut_at=0.5, **content))
    place.proxy.inject(Fault(before=lambda: _wait(rest), **content))
    task = make_task(records, tmp_path / "trial", workers=1)
    control = Control(tmp_path / "progress")
    arrival = Arrival(task, 0, control, alone)
    with stage(records, [shard]) as staged:
        waiting = threading.Thread(target=arrival.wait, args=(staged, "train", STAGING, 0))
        waiting.start()
        first.set()
        wait_until(lambda: control.progress.phase == STAGING)
        assert half.happened == 1
        assert staged.waiting == 1
        assert 0 < staged.arrived_bytes < shard.bytes
        rest.set()
        waiting.join(60)
        assert not waiting.is_alive()
        assert staged.waiting == 0


def _wait(event: threading.Event) -> None:
    event.wait(60)


class Arriving(StagedRecords):
    """Shards of which as much is there as is said: each look takes the next of these counts of bytes.

    Args:
        looks: bytes that have arrived; all shards are there after the last look.
        before: bytes that are there before the first.
    """

    def __init__(self, looks: Sequence[int], before: int = 0) -> None:
        self._looks = list(looks)
        self._seen = before

    def wait(self, shards: object, seconds: float | None = None) -> bool:
        self._seen = self._looks.pop(0) if self._looks else self._seen
        return not self._looks

    @property
    def arrived_bytes(self) -> int:
        return self._seen


class Together:
    """What two workers in two threads agree on."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=60)
        self._given: list[Sequence[float]] = []

    def minima(self, values: Sequence[float]) -> np.ndarray:
        self._given.append(values)
        self._barrier.wait()
        found = np.min(self._given[-2:], axis=0)
        self._barrier.wait()
        return found


@pytest.mark.parametrize(
    ("before", "looks", "reports"),
    [(0, [1, 2, 3, 4], 4), (0, [1, 1, 1, 4], 2), (0, [0, 0, 0, 0], 0), (1, [1, 1, 1, 1], 1)],
    ids=["all the time", "with a pause", "never", "before they met"],
)
def test_what_arrives_at_one_worker_is_progress_for_all(
    before: int, looks: list[int], reports: int, records: Records, tmp_path: Path
) -> None:
    """The first has all that it needs, and would hang in silence until its supervisor ends the group."""
    task = make_task(records, tmp_path / "trial", workers=2)
    together = Together()
    controls = [Control(None), Control(None)]
    arriving = [Arriving([0]), Arriving(looks, before)]
    threads = [
        threading.Thread(
            target=Arrival(task, worker, controls[worker], together.minima).wait,
            args=(arriving[worker], "train", STAGING, 0),
        )
        for worker in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert [control.progress.count for control in controls] == [reports, reports]

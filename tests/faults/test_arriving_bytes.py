"""Data that takes long to arrive is progress: the supervisor sees bytes, not whole shards."""

import threading
from pathlib import Path

from optduel.components.records import Records, stage
from optduel.components.storage import Upload, upload
from optduel.components.train.contract.control import STAGING, Control
from optduel.components.train.loop.loop import _wait_for_shards
from tests.faults.conftest import make_task
from tests.faults.proxy import Fault
from tests.records.test_reader import write_raw
from tests.servers.places import Place
from tests.train.processes import wait_until


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
    with stage(records, [shard]) as staged:
        waiting = threading.Thread(target=_wait_for_shards, args=(task, 0, staged, control))
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

"""Trials with all they have in a store."""

from pathlib import Path
from typing import Any

from optduel.components.records import Records
from optduel.components.storage import Upload, upload
from optduel.components.train.contract.task import Task
from tests.faults.conftest import make_task


def store(records: Records, root: str) -> Records:
    """The same data set in a store."""
    stored = Records(location=f"{root}/records", manifest=records.manifest)
    shards = [shard for split in records.manifest.splits.values() for shard in split.shards]
    upload([Upload(records.path(shard), stored.place(shard)) for shard in shards])
    return stored


def stored_task(records: Records, root: str, **compute: Any) -> Task:
    """Workers whose records, checkpoints and results are in the store."""
    task = make_task(store(records, root), Path("unused"), **compute)
    return task.model_copy(update={"output": f"{root}/trial"})

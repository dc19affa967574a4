"""Which shards a worker reads, and how they come to it."""

from optduel.components.core.errors import ExperimentError
from optduel.components.records.manifest import Shard
from optduel.components.records.staging import StagedRecords, stage
from optduel.components.train.contract.task import Task


def own_shards(task: Task, split: str, worker: int) -> tuple[Shard, ...]:
    """Those that are `worker` modulo the number of workers.

    Raises:
        ExperimentError: the workers do not divide the shards.
    """
    shards, workers = task.records.manifest.splits[split].shards, task.compute.workers
    if len(shards) % workers:
        raise ExperimentError(f"compute.workers = {workers}: must divide the records' {len(shards)} shards")
    return shards[worker::workers]


def stage_own_shards(task: Task, worker: int) -> StagedRecords:
    """Verifies them and brings them to the worker's disk, those of training first. Raises as `stage` does."""
    return stage(
        task.records,
        [shard for split in ("train", "validation") for shard in own_shards(task, split, worker)],
    )

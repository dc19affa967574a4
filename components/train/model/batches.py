"""Which examples a worker takes at a step: the same global batches whatever the number of workers.

An epoch's order is a sequence of positions 0, 1, ... Position p is a record of shard p % S, namely number
p // S of a permutation drawn from (seed, epoch, shard), and belongs to worker p % N, where N divides S.
So global batch k, positions k*B to (k+1)*B - 1, is the same set for every N, a worker reads only shards
of its own, and any step can be the first one. The last batch of an epoch holds what is left.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from optduel.components.augmentation import WIDTH, epoch_draws, epoch_shares
from optduel.components.core import ExperimentError, OptduelError
from optduel.components.records import Shard, SplitReader, StagedRecords, stage
from optduel.components.settings import Augmentation, Training, steps_per_epoch
from optduel.components.train.contract.task import Task

PREFETCHED_STEPS = 3
"""Steps that are read ahead: one in use, one ready, one being gathered."""

PARALLEL_READS = 2
"""Batches that are gathered at a time; the kernel copies without the interpreter's lock."""


@dataclass(frozen=True)
class BatchSampler:
    """The order of one split's examples over a run.

    Attributes:
        shard_sizes: records of each shard.
        global_batch_size: examples of a step over all workers.
        seed: of the permutations; None keeps the order of the records, as validation does.
        augmentation: of the images; for it numbers are drawn, and for mixup a second example.
    """

    shard_sizes: tuple[int, ...]
    global_batch_size: int
    seed: int | None
    augmentation: Augmentation | None = None

    @property
    def example_count(self) -> int:
        """Examples of an epoch."""
        return sum(self.shard_sizes)

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.example_count, self.global_batch_size)

    def batch(self, step: int, part: int, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """One part of one global batch.

        Args:
            step: steps since the start of the run.
            part: which of the parts, 0 to `parts` - 1.
            parts: replicas over all workers; for N workers of M replicas, part w + N * m is replica m of
                worker w, so that worker w keeps to the shards that are w modulo N.

        Returns:
            shards int64 [n] and rows int64 [n] of the examples, their places int64 [n] in the global batch,
            and the size of the global batch. n may be 0: the last batch of an epoch may have fewer examples
            than there are parts, and so may every batch.
        """
        epoch, start = self._place(step)
        size = min(self.global_batch_size, self.example_count - start)
        # Places are taken by position, not by place: a batch need not start at a multiple of `parts`.
        places = np.arange((part - start) % parts, size, parts)
        positions = start + places
        rows = _epoch_rows(self.seed, epoch, self.shard_sizes)[positions]
        return positions % len(self.shard_sizes), rows, places, size

    def draws(self, step: int, places: np.ndarray, is_partner: bool = False) -> np.ndarray:
        """What is drawn to augment the examples at these places, or their partners: float32 [n, WIDTH]."""
        epoch, start = self._place(step)
        return epoch_draws(self._drawn, epoch, self.example_count, is_partner)[start + places]

    def partners(self, step: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is mixed into the examples at these places.

        Returns:
            rows int64 [n] of the partners, each in the shard of its example: of the same worker, whatever
            their number; and the shares float32 [n] that the examples keep.
        """
        epoch, start = self._place(step)
        positions = start + places
        shares = epoch_shares(self._drawn, epoch, self.example_count, self._alpha)[positions]
        return _epoch_rows(self._drawn, epoch, self.shard_sizes, is_partner=True)[positions], shares

    @property
    def _drawn(self) -> int:
        if self.seed is None:
            raise ValueError("seed = None: nothing is drawn for an order without a seed")
        return self.seed

    @property
    def _alpha(self) -> float:
        if self.augmentation is None or self.augmentation.mixup is None:
            raise ValueError("augmentation.mixup is off: there are no partners")
        return self.augmentation.mixup

    def _place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the position at which its batch starts."""
        epoch, step_in_epoch = divmod(step, self.epoch_steps)
        return epoch, step_in_epoch * self.global_batch_size


@functools.lru_cache(maxsize=8)
def _epoch_rows(
    seed: int | None, epoch: int, shard_sizes: tuple[int, ...], is_partner: bool = False
) -> np.ndarray:
    """The record within its shard, int64, of each position of an epoch.

    Drawn by Philox, whose stream NumPy keeps stable from one release to the next.
    """
    rows = np.empty(sum(shard_sizes), np.int64)
    for shard, size in enumerate(shard_sizes):
        if seed is None:
            rows[shard :: len(shard_sizes)] = np.arange(size)
        else:
            words = [seed, epoch, shard, _PARTNERS] if is_partner else [seed, epoch, shard]
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
            rows[shard :: len(shard_sizes)] = generator.permutation(size)
    return rows


_PARTNERS = 4
"""The fourth word of a seed; see `components/augmentation/chance.py` for the others."""


def training_sampler(reader: SplitReader, training: Training, seed: int) -> BatchSampler:
    """The shuffled order of the training split."""
    return BatchSampler(reader.shard_sizes, training.global_batch_size, seed, training.augmentation)


def validation_sampler(reader: SplitReader, training: Training) -> BatchSampler:
    """The validation split in the order of its records."""
    return BatchSampler(reader.shard_sizes, training.global_batch_size, None)


def distribute(
    strategy: tf.distribute.Strategy,
    reader: SplitReader,
    sampler: BatchSampler,
    first_step: int,
    last_step: int,
    errors: list[OptduelError],
) -> Iterator[Any]:
    """Batches for every replica of this worker, read ahead, from `first_step` to before `last_step`.

    Each element is (images uint8 [n, height, width, channels], labels int32 [n], places int64 [n],
    batch_size int64 scalar, step int64 scalar), n differing between replicas and steps. With augmentation
    draws float32 [n, WIDTH] follow, and with mixup the partners' images, labels and draws, and the shares
    float32 [n] that the examples keep.

    Args:
        errors: receives what is met while reading; all that TensorFlow raises of it is an error of its own
            kind, and a text.
    """
    signature: tuple[tf.TensorSpec, ...] = (
        tf.TensorSpec((None, *reader.image_shape), tf.uint8),
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((), tf.int64),
    )
    is_mixed = bool(sampler.augmentation and sampler.augmentation.mixup)
    if sampler.augmentation:
        signature += (tf.TensorSpec((None, WIDTH), tf.float32),)
    if is_mixed:
        signature += (*signature[:2], signature[-1], tf.TensorSpec((None,), tf.float32))

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers, worker = context.num_input_pipelines, context.input_pipeline_id
        parts = context.num_replicas_in_sync
        local = parts // workers

        def gather(number: np.ndarray) -> tuple[Any, ...]:
            step, replica = divmod(int(number), local)
            shards, rows, places, size = sampler.batch(step, worker + workers * replica, parts)
            drawn: tuple[Any, ...] = (sampler.draws(step, places),) if sampler.augmentation else ()
            try:
                images, labels = reader.read(shards, rows)
                if is_mixed:
                    partners, shares = sampler.partners(step, places)
                    drawn += (*reader.read(shards, partners), sampler.draws(step, places, True), shares)
            except OptduelError as error:
                errors.append(error)
                raise
            return images, labels, places, np.int64(size), np.int64(step), *drawn

        def as_tensors(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            dtypes = [spec.dtype for spec in signature]
            # Stateless: op determinism makes tf.data call what has a state in turns, and read nothing ahead.
            tensors = tf.numpy_function(gather, [number], dtypes, stateful=False)
            return tuple(
                tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(tensors, signature, strict=True)
            )

        numbers = tf.data.Dataset.range(first_step * local, last_step * local)
        batches = numbers.map(as_tensors, num_parallel_calls=PARALLEL_READS, deterministic=True)
        options = tf.data.Options()
        # Nothing is left to tune, and the end of an iterator waits up to a second for the thread that would.
        options.autotune.enabled = False
        return batches.prefetch(PREFETCHED_STEPS * local).with_options(options)

    return iter(strategy.distribute_datasets_from_function(worker_batches))


def own_shards(task: Task, split: str, worker: int) -> tuple[Shard, ...]:
    """Those that are `worker` modulo the number of workers.

    Raises:
        ExperimentError: the workers do not divide the shards.
    """
    shards, workers = task.records.manifest.splits[split].shards, task.compute.workers
    if len(shards) % workers:
        raise ExperimentError(f"compute.workers = {workers}: must divide the records' {len(shards)} shards")
    return shards[worker::workers]


def stage_own_shards(task: Task, worker: int, progress: Callable[[], None]) -> StagedRecords:
    """Verifies them and brings them to the worker's disk, those of training first. Raises as `stage` does.

    Args:
        progress: called as long as bytes are read or arrive before this returns.
    """
    return stage(
        task.records,
        [shard for split in ("train", "validation") for shard in own_shards(task, split, worker)],
        progress,
    )

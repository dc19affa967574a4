"""Which examples a worker takes at a step: the same global batches whatever the number of workers.

An epoch's order is a sequence of positions 0, 1, ... Position p is a record of shard p % S, namely number
p // S of a permutation drawn from (seed, epoch, shard), and belongs to worker p % N, where N divides S.
So global batch k, positions k*B to (k+1)*B - 1, is the same set for every N, a worker reads only shards
of its own, and any step can be the first one. The last batch of an epoch holds what is left.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.core.experiment import Training
from components.core.records import SplitReader
from components.core.schedules import steps_per_epoch

PREFETCHED_STEPS = 3
"""Steps that are read ahead: one in use, one ready, one being gathered."""


@dataclass(frozen=True)
class Plan:
    """The order of one split's examples over a run.

    Attributes:
        shard_sizes: records of each shard.
        global_batch_size: examples of a step over all workers.
        seed: of the permutations; None keeps the order of the records, as validation does.
    """

    shard_sizes: tuple[int, ...]
    global_batch_size: int
    seed: int | None

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
            and the size of the global batch. n may be 0 in the last batch of an epoch.
        """
        epoch, step_in_epoch = divmod(step, self.epoch_steps)
        start = step_in_epoch * self.global_batch_size
        size = min(self.global_batch_size, self.example_count - start)
        # Places are taken by position, not by place: a batch need not start at a multiple of `parts`.
        places = np.arange((part - start) % parts, size, parts)
        positions = start + places
        shard_count = len(self.shard_sizes)
        shards, ranks = positions % shard_count, positions // shard_count
        rows = np.empty_like(ranks)
        for shard in np.unique(shards):
            chosen = shards == shard
            rows[chosen] = self._permutation(epoch, int(shard))[ranks[chosen]]
        return shards, rows, places, size

    def _permutation(self, epoch: int, shard: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(self.shard_sizes[shard])
        return _permutation(self.seed, epoch, shard, self.shard_sizes[shard])


@functools.lru_cache(maxsize=4096)
def _permutation(seed: int, epoch: int, shard: int, size: int) -> np.ndarray:
    """Drawn by Philox, whose stream NumPy keeps stable from one release to the next."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, shard])))
    return generator.permutation(size)


def training_plan(reader: SplitReader, training: Training, seed: int) -> Plan:
    """The shuffled order of the training split."""
    return Plan(reader.shard_sizes, training.global_batch_size, seed)


def validation_plan(reader: SplitReader, training: Training) -> Plan:
    """The validation split in the order of its records."""
    return Plan(reader.shard_sizes, training.global_batch_size, None)


def distribute(
    strategy: tf.distribute.Strategy, reader: SplitReader, plan: Plan, first_step: int, last_step: int
) -> Iterator[Any]:
    """Batches for every replica of this worker, read ahead, from `first_step` to before `last_step`.

    Each element is (images uint8 [n, height, width, channels], labels int32 [n], places int64 [n],
    batch_size int64 scalar, step int64 scalar), n differing between replicas and steps.
    """
    image_shape = reader.image_shape

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers, worker = context.num_input_pipelines, context.input_pipeline_id
        parts = context.num_replicas_in_sync
        local = [worker + workers * replica for replica in range(parts // workers)]

        def generate() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]]:
            for step, part in itertools.product(range(first_step, last_step), local):
                shards, rows, places, size = plan.batch(step, part, parts)
                images, labels = reader.read(shards, rows)
                yield images, labels, places, size, step

        dataset = tf.data.Dataset.from_generator(
            generate,
            output_signature=(
                tf.TensorSpec((None, *image_shape), tf.uint8),
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((), tf.int64),
                tf.TensorSpec((), tf.int64),
            ),
        )
        return dataset.prefetch(PREFETCHED_STEPS * len(local))

    return iter(strategy.distribute_datasets_from_function(worker_batches))

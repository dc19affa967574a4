"""The order of examples: complete, shuffled, and the same for every number of workers."""

import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.train.model.batches import BatchSampler


@st.composite
def samplers(draw: st.DrawFn) -> BatchSampler:
    examples = draw(st.integers(1, 200))
    shards = draw(st.sampled_from([4, 8, 12]))
    sizes = tuple(len(range(shard, examples, shards)) for shard in range(shards))
    return BatchSampler(sizes, draw(st.integers(1, 50)), draw(st.none() | st.integers(0, 2**31 - 1)))


def examples_of(sampler: BatchSampler, step: int, part: int, parts: int) -> list[tuple[int, int]]:
    shards, rows, _, _ = sampler.batch(step, part, parts)
    return list(zip(shards.tolist(), rows.tolist(), strict=True))


@given(samplers(), st.integers(0, 3))
def test_epoch_takes_every_example_exactly_once(sampler: BatchSampler, epoch: int) -> None:
    first = epoch * sampler.epoch_steps
    taken = [
        example
        for step in range(first, first + sampler.epoch_steps)
        for example in examples_of(sampler, step, 0, 1)
    ]
    everything = {(shard, row) for shard, size in enumerate(sampler.shard_sizes) for row in range(size)}
    assert len(taken) == sampler.example_count
    assert set(taken) == everything


@given(samplers(), st.sampled_from([2, 4]), st.sampled_from([1, 2, 3]), st.data())
def test_global_batch_is_the_same_set_for_any_workers_and_replicas(
    sampler: BatchSampler, workers: int, replicas: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, 3 * sampler.epoch_steps - 1))
    parts = workers * replicas
    alone = examples_of(sampler, step, 0, 1)
    spread: list[tuple[int, int]] = [(-1, -1)] * len(alone)
    for worker in range(workers):
        for replica in range(replicas):
            shards, rows, places, size = sampler.batch(step, worker + workers * replica, parts)
            assert size == len(alone)
            assert set(shards % workers) <= {worker}, "a worker reads only shards of its own"
            for shard, row, place in zip(shards, rows, places, strict=True):
                assert spread[place] == (-1, -1)
                spread[place] = (int(shard), int(row))
    assert spread == alone


@given(samplers(), st.sampled_from([2, 4]))
def test_workers_shares_of_a_batch_differ_by_at_most_one_example(sampler: BatchSampler, workers: int) -> None:
    sizes = [len(examples_of(sampler, sampler.epoch_steps - 1, worker, workers)) for worker in range(workers)]
    assert max(sizes) - min(sizes) <= 1


def test_order_changes_with_epoch_and_seed_and_is_repeatable() -> None:
    sampler = BatchSampler((50,) * 4, 20, seed=1)
    first = [examples_of(sampler, step, 0, 1) for step in range(sampler.epoch_steps)]
    second = [examples_of(sampler, step + sampler.epoch_steps, 0, 1) for step in range(sampler.epoch_steps)]
    other = [
        examples_of(BatchSampler((50,) * 4, 20, seed=2), step, 0, 1) for step in range(sampler.epoch_steps)
    ]
    again = [
        examples_of(BatchSampler((50,) * 4, 20, seed=1), step, 0, 1) for step in range(sampler.epoch_steps)
    ]
    assert first == again
    assert first != second
    assert first != other


def test_order_of_a_seed_is_golden() -> None:
    """NumPy keeps Philox stable; should it not, every resumed run would silently change its data order."""
    shards, rows, _, _ = BatchSampler((5, 5), 6, seed=7).batch(0, 0, 1)
    np.testing.assert_array_equal(shards, [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(rows, [1, 1, 0, 4, 4, 3])


@pytest.mark.parametrize("step", [0, 3])
def test_validation_keeps_the_order_of_the_records(step: int) -> None:
    shards, rows, places, size = BatchSampler((4, 3), 2, None).batch(step, 0, 1)
    positions = rows * 2 + shards
    assert positions.tolist() == list(range(2 * step, 2 * step + size))
    assert places.tolist() == list(range(size))


READ_AHEAD = """
import threading
import numpy as np
import tensorflow as tf
from optduel.components.train.model.batches import PREFETCHED_STEPS, BatchSampler, distribute

class Reader:
    image_shape = (1, 1, 1)

    def __init__(self):
        self.reads = threading.Semaphore(0)

    def read(self, shards, rows):
        self.reads.release()
        return np.zeros((len(shards), 1, 1, 1), np.uint8), np.zeros(len(shards), np.int32)

tf.config.experimental.enable_op_determinism()
reader = Reader()
batches = distribute(tf.distribute.get_strategy(), reader, BatchSampler((8,) * 4, 4, 0), 0, 8, [])
next(batches)
for number in range(1 + PREFETCHED_STEPS):
    assert reader.reads.acquire(timeout=30), f"{number} batches were read after one was asked for"
"""
"""Takes one batch, with the op determinism of the trainer, and waits for those that nobody has asked for."""


@pytest.mark.slow
def test_batches_are_read_ahead_of_the_step_that_asks_for_them(forking_python: str) -> None:
    subprocess.run([forking_python, "-c", READ_AHEAD], check=True, timeout=120)

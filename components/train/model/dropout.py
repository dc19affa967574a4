"""Dropout whose masks depend on seed, step and place in the global batch, not on the number of workers.

Keras' own layer draws from a state that every worker advances alike, so two workers drop the same units of
different examples, a run with another number of workers is another run, and no save format keeps the state.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Batch:
    """Where examples stand: seed, step int64 scalar, places int64 [n], batch_size int64 scalar."""

    seed: int
    step: tf.Tensor
    places: tf.Tensor
    batch_size: tf.Tensor


class BatchDropout(keras.layers.Layer):
    """Drops units of [n, features] inputs within `BatchDropout.batch`; passes them on outside of training.

    Args:
        rate: fraction of units that is dropped; the others are scaled by 1 / (1 - rate).
    """

    # Several replicas of one process are traced in a thread each, in turns.
    _traced: ClassVar[threading.local] = threading.local()

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @classmethod
    @contextlib.contextmanager
    def batch(cls, batch: Batch) -> Iterator[None]:
        """Names the examples that the layers called in the body work on."""
        cls._traced.batch, cls._traced.layers = batch, 0
        try:
            yield
        finally:
            cls._traced.batch = None

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Inputs and outputs: float [n, features]."""
        batch: Batch | None = getattr(self._traced, "batch", None)
        if not training or not self.rate or batch is None:
            return inputs
        # Masks of the whole batch are drawn and the rows at hand are taken: a few thousand numbers, for
        # which there is no need to know how the batch is spread. Each layer of the model has its own.
        seed = tf.stack([tf.constant(batch.seed * 64 + self._traced.layers, tf.int64), batch.step])
        self._traced.layers += 1
        shape = tf.stack([batch.batch_size, tf.cast(tf.shape(inputs)[1], tf.int64)])
        draws = tf.random.stateless_uniform(shape, seed, dtype=tf.float32)
        kept = tf.gather(draws, batch.places) >= self.rate
        return tf.where(kept, inputs / (1 - self.rate), tf.zeros_like(inputs))

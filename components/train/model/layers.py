"""Dropout whose masks depend on seed, step and place in the global batch, not on the number of workers.

Keras' own layer draws from a state that every worker advances alike, so two workers drop the same units of
different examples, a run with another number of workers is another run, and no save format keeps the state.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Batch:
    """Where examples stand: places int64 [n] in a batch; seed, step and batch_size int64 scalars."""

    seed: tf.Tensor
    step: tf.Tensor
    places: tf.Tensor
    batch_size: tf.Tensor


class BatchDropout(keras.layers.Layer):
    """Drops units of [n, ...] inputs within `BatchDropout.batch`; passes them on outside of training.

    Args:
        rate: fraction of units that is dropped; the others are scaled by 1 / (1 - rate).
        noise_shape: as Keras' Dropout takes it: an axis of length 1 is dropped, or kept, as a whole.
    """

    # Several replicas of one process are traced in a thread each, in turns.
    _traced: ClassVar[threading.local] = threading.local()

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.rate = rate
        self.noise_shape = noise_shape

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
        """Inputs and outputs: float [n, ...]."""
        batch: Batch | None = getattr(self._traced, "batch", None)
        if not training or not self.rate or batch is None:
            return inputs
        # Masks of the whole batch are drawn and the rows at hand are taken: a few thousand numbers, for
        # which there is no need to know how the batch is spread. Each layer of the model has its own.
        seed = tf.stack([batch.seed * 64 + self._traced.layers, batch.step])
        self._traced.layers += 1
        noise = self.noise_shape or inputs.shape
        sizes = [size if wanted is None else wanted for size, wanted in zip(inputs.shape, noise, strict=True)]
        shape = tf.stack([batch.batch_size, *(tf.constant(size, tf.int64) for size in sizes[1:])])
        draws = tf.random.stateless_uniform(shape, seed, dtype=tf.float32)
        kept = tf.gather(draws, batch.places) >= self.rate
        return tf.where(kept, inputs / (1 - self.rate), tf.zeros_like(inputs))


def of_some(operation: Callable[[Any], Any], inputs: Any) -> Any:
    """An operation that treats every example alike, and is never given none.

    Args:
        operation: from [n, height, width, channels], n at least 1, to outputs of the same rank.
        inputs: n may be 0: then the operation works on zeros, of which no result and no gradient is left.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return operation(inputs)  # it has every example of a batch; what follows costs a float32 step 3 %
    count = tf.shape(inputs)[0]
    padded = tf.pad(inputs, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
    outputs = operation(tf.ensure_shape(padded, (None, *inputs.shape[1:])))
    result = tf.slice(outputs, [0, 0, 0, 0], tf.stack([count, -1, -1, -1]))
    return tf.ensure_shape(result, (None, *outputs.shape[1:]))


class _OfSome:
    """A layer of Keras' that treats every example alike, of any number of examples."""

    def call(self, inputs: Any) -> Any:
        """Inputs [n, height, width, channels], outputs [n, new height, new width, new channels]."""
        return of_some(super().call, inputs)  # type: ignore[misc]


class Conv2D(_OfSome, keras.layers.Conv2D):
    """Keras' Conv2D."""


class DepthwiseConv2D(_OfSome, keras.layers.DepthwiseConv2D):
    """Keras' DepthwiseConv2D."""


class SeparableConv2D(_OfSome, keras.layers.SeparableConv2D):
    """Keras' SeparableConv2D."""


class MaxPooling2D(_OfSome, keras.layers.MaxPooling2D):
    """Keras' MaxPooling2D."""


class AveragePooling2D(_OfSome, keras.layers.AveragePooling2D):
    """Keras' AveragePooling2D."""


OF_SOME: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.Conv2D: Conv2D,
    keras.layers.DepthwiseConv2D: DepthwiseConv2D,
    keras.layers.SeparableConv2D: SeparableConv2D,
    keras.layers.MaxPooling2D: MaxPooling2D,
    keras.layers.AveragePooling2D: AveragePooling2D,
}
"""For layers of Keras' whose gradient fails without an example, those that take one."""


class PlainShortcut(keras.layers.Layer):
    """Every `strides`-th pixel, and as many channels of zeros again.

    Args:
        strides: of rows and columns.
    """

    def __init__(self, strides: int) -> None:
        super().__init__()
        self._strides = strides

    def call(self, inputs: Any) -> Any:
        """Inputs [n, height, width, channels], outputs [n, new height, new width, 2 * channels]."""
        pixels = inputs[:, :: self._strides, :: self._strides]
        return tf.pad(pixels, [[0, 0], [0, 0], [0, 0], [0, inputs.shape[-1]]])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of `call`'s result."""
        batch, height, width, channels = input_shape
        return (batch, -(-height // self._strides), -(-width // self._strides), 2 * channels)


class PooledConv2D(keras.layers.Conv2D):
    """Conv2D with ReLU followed by 2 x 2 max pooling, computed as convolution, pooling, bias, ReLU.

    Adding a constant and ReLU are monotone, so they commute with the maximum, and after it there is a quarter
    of the numbers to add to, to clip, and to take gradients of.
    """

    def call(self, inputs: Any) -> Any:
        """Inputs [n, height, width, channels], outputs [n, height // 2, width // 2, filters]."""
        features = of_some(self._convolved_and_pooled, inputs)
        # Not a broadcasting addition, whose gradient is a general sum: slow, above all in bfloat16.
        return tf.nn.relu(tf.nn.bias_add(features, keras.ops.convert_to_tensor(self.bias)))

    def _convolved_and_pooled(self, inputs: Any) -> Any:
        return keras.ops.max_pool(self.convolution_op(inputs, self.kernel), 2)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of `call`'s result."""
        batch, height, width, filters = super().compute_output_shape(input_shape)
        return (batch, height // 2, width // 2, filters)


@dataclass(frozen=True)
class Product:
    """One use of a kernel: inputs [n, in] times `kernel` [in, out] gave outputs [n, out], without bias.

    `global_batch_size` is the largest number of examples of a step over all replicas.
    """

    kernel: keras.Variable
    inputs: tf.Tensor
    outputs: tf.Tensor
    global_batch_size: int


class FactoredDense(keras.layers.Dense):
    """Keras' Dense for [n, features] inputs, which within `products` hands its factors over.

    Args:
        units: width of the output.
        global_batch_size: examples of a step over all replicas; decides whether factors are the smaller.
        options: as Keras' Dense takes them.
    """

    # Several replicas of one process are traced in a thread each, in turns.
    _traced: ClassVar[threading.local] = threading.local()

    def __init__(self, units: int, global_batch_size: int, **options: Any) -> None:
        super().__init__(units, **options)
        self._global_batch_size = global_batch_size

    @classmethod
    @contextlib.contextmanager
    def products(cls, tape: tf.GradientTape) -> Iterator[list[Product]]:
        """Collects the products of layers called in the body.

        Args:
            tape: gets to know their outputs, and gives their kernels no gradient.
        """
        cls._traced.tape, cls._traced.products = tape, []
        try:
            yield cls._traced.products
        finally:
            cls._traced.tape = cls._traced.products = None

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Inputs float [n, features], outputs float [n, units]."""
        products: list[Product] | None = getattr(self._traced, "products", None)
        width = inputs.shape[-1]
        if products is None or self._global_batch_size * (width + self.units) >= width * self.units:
            return super().call(inputs, training=training)
        outputs = tf.matmul(inputs, tf.stop_gradient(keras.ops.convert_to_tensor(self.kernel)))
        self._traced.tape.watch(outputs)
        products.append(Product(self._kernel, inputs, outputs, self._global_batch_size))
        return self.activation(outputs + self.bias)


def kernel_gradient(product: Product, output_gradient: tf.Tensor) -> tf.Tensor:
    """Gradient of the summed loss of all replicas by the product's kernel; in a replica context.

    Args:
        product: this replica's.
        output_gradient: [n, out], gradient of this replica's share of the loss by `product.outputs`.

    Returns:
        [in, out], equal on all replicas, in the kernel's dtype.
    """
    factors = [product.inputs, output_gradient]
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        # A collective keeps the shape of its first use, and a last batch is smaller: rows of zeros fill up.
        rows = -(-product.global_batch_size // context.num_replicas_in_sync)
        padded = [tf.pad(factor, [[0, rows - tf.shape(factor)[0]], [0, 0]]) for factor in factors]
        factors = [_gather(factor, context) for factor in padded]
    return tf.cast(tf.matmul(*factors, transpose_a=True), product.kernel.dtype)


def _gather(factor: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    """All replicas' rows, below one another; bfloat16, which has no gather, as bits of float16."""
    if factor.dtype != tf.bfloat16:
        return context.all_gather(factor, axis=0)
    return tf.bitcast(context.all_gather(tf.bitcast(factor, tf.float16), axis=0), tf.bfloat16)

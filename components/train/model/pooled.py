"""Convolution and pooling in the order that costs least, also of a batch without an example.

A replica has none where the last batch of an epoch, or every batch, has fewer examples than there are
replicas. There oneDNN's convolution gives one feature instead of all, and the gradient of TensorFlow's
pooling ends the process.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


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


class Conv2D(keras.layers.Conv2D):
    """Keras' Conv2D, of any number of examples."""

    def call(self, inputs: Any) -> Any:
        """Inputs [n, height, width, channels], outputs [n, new height, new width, filters]."""
        return of_some(super().call, inputs)


class MaxPooling2D(keras.layers.MaxPooling2D):
    """Keras' MaxPooling2D, of any number of examples."""

    def call(self, inputs: Any) -> Any:
        """Inputs [n, height, width, channels], outputs [n, new height, new width, channels]."""
        return of_some(super().call, inputs)


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

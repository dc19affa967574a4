"""Convolution, ReLU and pooling in the order that costs least."""

from typing import Any

import keras
import tensorflow as tf


class PooledConv2D(keras.layers.Conv2D):
    """Conv2D with ReLU followed by 2 x 2 max pooling, computed as convolution, pooling, bias, ReLU.

    Adding a constant and ReLU are monotone, so they commute with the maximum, and after it there is a quarter
    of the numbers to add to, to clip, and to take gradients of.
    """

    def call(self, inputs: Any) -> Any:
        """Inputs [n, height, width, channels], outputs [n, height // 2, width // 2, filters]."""
        features = keras.ops.max_pool(self.convolution_op(inputs, self.kernel), 2)
        # Not a broadcasting addition, whose gradient is a general sum: slow, above all in bfloat16.
        return tf.nn.relu(tf.nn.bias_add(features, keras.ops.convert_to_tensor(self.bias)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of `call`'s result."""
        batch, height, width, filters = super().compute_output_shape(input_shape)
        return (batch, height // 2, width // 2, filters)

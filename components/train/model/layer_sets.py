"""What networks are made of: Keras' own layers for export, and layers with the same weights for training."""

from collections.abc import Callable
from typing import Any

import keras

from optduel.components.train.model.layers import (
    OF_SOME,
    BatchDropout,
    Conv2D,
    FactoredDense,
    MaxPooling2D,
    PlainShortcut,
    PooledConv2D,
)

_CONV: dict[str, Any] = {"kernel_size": 3, "padding": "same", "use_bias": False}
_POOLING: dict[str, Any] = {"padding": "same"}


def scaled(pixels: Any) -> Any:
    """From 0 to 1."""
    return keras.layers.Rescaling(1 / 255)(pixels)


class KerasLayers:
    """The layers that a model is made of, as Keras has them: what is exported and loaded without our code."""

    @property
    def pixel_dtype(self) -> str:
        """Of the images that a model takes."""
        return "uint8"

    def dropout(self, rate: float, name: str | None = None) -> keras.layers.Layer:
        """Drops a fraction of the features."""
        return keras.layers.Dropout(rate, name=name)

    def dense(self, units: int) -> keras.layers.Layer:
        """Dense with ReLU."""
        return keras.layers.Dense(units, activation="relu")

    def conv(self, filters: int, **options: Any) -> keras.layers.Layer:
        """Conv2D without bias, 3 x 3 and as large as its input unless the options say otherwise."""
        return keras.layers.Conv2D(filters, **_CONV | options)

    def normalization(self, epsilon: float = 1e-3) -> keras.layers.Layer:
        """Batch normalization over all replicas; in training with the statistics of the global batch."""
        # Without synchronization every worker would normalize by, and save, statistics of its own.
        # Statistics follow within tens of steps: small data sets have few steps an epoch.
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=epsilon, synchronized=True)

    def max_pooling(self, **options: Any) -> keras.layers.Layer:
        """2 x 2 max pooling, of an odd row or column, too, unless the options say otherwise."""
        return keras.layers.MaxPooling2D(**_POOLING | options)

    def plain_shortcut(self, strides: int) -> Callable[[Any], Any]:
        """Every `strides`-th pixel, and as many channels of zeros again: option A of arXiv 1512.03385."""
        pooling = keras.layers.MaxPooling2D(1, strides)
        zeros = keras.layers.Rescaling(0.0)
        return lambda features: keras.layers.Concatenate()([pooled := pooling(features), zeros(pooled)])

    def pooled_conv(self, filters: int) -> Callable[[Any], Any]:
        """Conv2D 3 x 3 with ReLU, then 2 x 2 max pooling."""
        convolution = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")
        pooling = keras.layers.MaxPooling2D()
        return lambda features: pooling(convolution(features))

    def cloned(self, layer: keras.layers.Layer, config: dict[str, Any]) -> keras.layers.Layer:
        """A layer of another model, anew.

        Args:
            layer: one of Keras'.
            config: to make it from.
        """
        return type(layer).from_config(config)


KERAS_LAYERS = KerasLayers()


class TrainingLayers(KerasLayers):
    """Layers with the same variables and results, made for training on any number of replicas.

    A replica may have no example of a batch.

    Args:
        global_batch_size: examples of a step over all replicas.
    """

    def __init__(self, global_batch_size: int) -> None:
        self._global_batch_size = global_batch_size

    @property
    def pixel_dtype(self) -> str:
        """Augmented pixels are no whole numbers."""
        return "float64" if keras.config.dtype_policy().name == "float64" else "float32"

    def dropout(self, rate: float, name: str | None = None) -> keras.layers.Layer:
        """Masks do not depend on the number of replicas."""
        return BatchDropout(rate, name=name)

    def dense(self, units: int) -> keras.layers.Layer:
        """The kernel's gradient travels as its factors where they are smaller."""
        return FactoredDense(units, self._global_batch_size, activation="relu")

    def conv(self, filters: int, **options: Any) -> keras.layers.Layer:
        """Takes a batch without an example, too."""
        return Conv2D(filters, **_CONV | options)

    def max_pooling(self, **options: Any) -> keras.layers.Layer:
        """Takes a batch without an example, too."""
        return MaxPooling2D(**_POOLING | options)

    def plain_shortcut(self, strides: int) -> Callable[[Any], Any]:
        """As slices and zeros."""
        return PlainShortcut(strides)

    def pooled_conv(self, filters: int) -> Callable[[Any], Any]:
        """Pools before bias and ReLU."""
        return PooledConv2D(filters, 3, padding="same")

    def cloned(self, layer: keras.layers.Layer, config: dict[str, Any]) -> keras.layers.Layer:
        """Takes a batch without an example, too, and masks do not depend on the number of replicas."""
        if isinstance(layer, keras.layers.Dropout):
            return BatchDropout(layer.rate, layer.noise_shape)
        return OF_SOME.get(type(layer), type(layer)).from_config(config)

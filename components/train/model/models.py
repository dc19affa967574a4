"""The networks, by name: uint8 pixels in, logits out, normalization inside.

None of them carries a regularizer: the penalty belongs to the arm, and the loop adds it.
"""

from collections.abc import Callable
from typing import Any

import keras

from optduel.components.settings import CnnModel, LinearModel, Model, TutorialCnnModel
from optduel.components.train.model.layers import (
    BatchDropout,
    Conv2D,
    FactoredDense,
    MaxPooling2D,
    PooledConv2D,
)


class KerasLayers:
    """The layers that a model is made of, as Keras has them: what is exported and loaded without our code."""

    def dropout(self, rate: float) -> keras.layers.Layer:
        """Drops a fraction of the features."""
        return keras.layers.Dropout(rate)

    def dense(self, units: int) -> keras.layers.Layer:
        """Dense with ReLU."""
        return keras.layers.Dense(units, activation="relu")

    def conv(self, filters: int) -> keras.layers.Layer:
        """Conv2D 3 x 3 without bias."""
        return keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)

    def max_pooling(self) -> keras.layers.Layer:
        """2 x 2 max pooling; of an odd row or column, too."""
        return keras.layers.MaxPooling2D(padding="same")

    def pooled_conv(self, filters: int) -> Callable[[Any], Any]:
        """Conv2D 3 x 3 with ReLU, then 2 x 2 max pooling."""
        convolution = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")
        pooling = keras.layers.MaxPooling2D()
        return lambda features: pooling(convolution(features))


KERAS_LAYERS = KerasLayers()


class TrainingLayers(KerasLayers):
    """Layers with the same variables and results, made for training on any number of replicas.

    A replica may have no example of a batch.

    Args:
        global_batch_size: examples of a step over all replicas.
    """

    def __init__(self, global_batch_size: int) -> None:
        self._global_batch_size = global_batch_size

    def dropout(self, rate: float) -> keras.layers.Layer:
        """Masks do not depend on the number of replicas."""
        return BatchDropout(rate)

    def dense(self, units: int) -> keras.layers.Layer:
        """The kernel's gradient travels as its factors where they are smaller."""
        return FactoredDense(units, self._global_batch_size, activation="relu")

    def conv(self, filters: int) -> keras.layers.Layer:
        """Takes a batch without an example, too."""
        return Conv2D(filters, 3, padding="same", use_bias=False)

    def max_pooling(self) -> keras.layers.Layer:
        """Takes a batch without an example, too."""
        return MaxPooling2D(padding="same")

    def pooled_conv(self, filters: int) -> Callable[[Any], Any]:
        """Pools before bias and ReLU."""
        return PooledConv2D(filters, 3, padding="same")


def build_model(
    model: Model,
    image_shape: tuple[int, int, int],
    class_count: int,
    layers: KerasLayers = KERAS_LAYERS,
) -> keras.Model:
    """Builds the network with freshly drawn weights.

    Args:
        model: its settings.
        image_shape: height, width, channels.
        class_count: number of logits.
        layers: what it is made of; the weights and their order are the same for all.

    Returns:
        A model from uint8 [batch, height, width, channels] to logits [batch, class_count], float32 or wider.
    """
    pixels = keras.Input(image_shape, dtype="uint8", name="image")
    features = MODELS[model.name](model, keras.layers.Rescaling(1 / 255)(pixels), layers)
    # Logits are float32 under a mixed policy too: a bfloat16 softmax has three digits.
    wide = "float64" if keras.config.dtype_policy().name == "float64" else "float32"
    logits = keras.layers.Dense(class_count, name="logits")(features)
    logits = keras.layers.Activation("linear", dtype=wide, name="wide_logits")(logits)
    return keras.Model(pixels, logits, name=model.name)


def _tutorial_cnn(model: TutorialCnnModel, images: Any, layers: KerasLayers) -> Any:
    features = images
    for _ in range(2):
        features = layers.pooled_conv(64)(features)
    return layers.dense(128)(keras.layers.Flatten()(features))


def _cnn(model: CnnModel, images: Any, layers: KerasLayers) -> Any:
    features = images
    for filters in model.filters:
        features = layers.conv(filters)(features)
        # Without synchronization every worker would normalize by, and save, statistics of its own.
        # Statistics follow within tens of steps: small data sets have few steps an epoch.
        features = keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(features)
        features = keras.layers.ReLU()(features)
        features = layers.max_pooling()(features)
    features = keras.layers.GlobalAveragePooling2D()(features)
    return layers.dropout(model.dropout)(features)


def _linear(model: LinearModel, images: Any, layers: KerasLayers) -> Any:
    return keras.layers.Flatten()(images)


MODELS: dict[str, Callable[[Any, Any, KerasLayers], Any]] = {
    "tutorial_cnn": _tutorial_cnn,
    "cnn": _cnn,
    "linear": _linear,
}
"""From (settings, normalized images, layers) to features, by the name in the experiment."""


def parameter_kind(variable_path: str) -> str:
    """What a trainable variable is to the arm's `decayed`: "kernel", "bias" or "normalization".

    Args:
        variable_path: Keras' path of the variable, such as "conv2d/kernel".

    Raises:
        ValueError: a variable that no model of the registry has; name its kind here.
    """
    name = variable_path.rpartition("/")[2]
    kinds = {"kernel": "kernel", "bias": "bias", "gamma": "normalization", "beta": "normalization"}
    if name not in kinds:
        raise ValueError(f"{variable_path}: no kind of parameter is known for {name!r}")
    return kinds[name]

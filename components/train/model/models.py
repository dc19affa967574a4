"""The networks, by name: uint8 pixels in, logits out, normalization inside.

None of them carries a regularizer: the penalty belongs to the arm, and the loop adds it.
"""

from collections.abc import Callable
from typing import Any

import keras

from optduel.components.settings import CnnModel, LinearModel, Model, TutorialCnnModel
from optduel.components.train.model.layer_sets import KERAS_LAYERS, KerasLayers
from optduel.components.train.model.resnet import residual_network


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
        A model from pixels, 0 to 255, [batch, height, width, channels], uint8 or as `layers` take them, to
        logits [batch, class_count], float32 or wider.
    """
    pixels = keras.Input(image_shape, dtype=layers.pixel_dtype, name="image")
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
        features = layers.normalization()(features)
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
    "resnet": residual_network,
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

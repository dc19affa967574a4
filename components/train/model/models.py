"""The networks, by name: uint8 pixels in, logits out, normalization inside.

None of them carries a regularizer: the penalty belongs to the arm, and the loop adds it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from optduel.components.settings import CnnModel, LinearModel, Model, PretrainedModel, TutorialCnnModel
from optduel.components.train.model.layer_sets import KERAS_LAYERS, KerasLayers, scaled
from optduel.components.train.model.pretrained_body import pretrained_network
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
    features = MODELS[model.name](model, pixels, layers)
    # Logits are float32 under a mixed policy too: a bfloat16 softmax has three digits.
    wide = "float64" if keras.config.dtype_policy().name == "float64" else "float32"
    logits = keras.layers.Dense(class_count, name=_HEAD)(features)
    logits = keras.layers.Activation("linear", dtype=wide, name="wide_logits")(logits)
    return keras.Model(pixels, logits, name=model.name)


def _tutorial_cnn(model: TutorialCnnModel, pixels: Any, layers: KerasLayers) -> Any:
    features = scaled(pixels)
    for _ in range(2):
        features = layers.pooled_conv(64)(features)
    return layers.dense(128)(keras.layers.Flatten()(features))


def _cnn(model: CnnModel, pixels: Any, layers: KerasLayers) -> Any:
    features = scaled(pixels)
    for filters in model.filters:
        features = layers.conv(filters)(features)
        features = layers.normalization()(features)
        features = keras.layers.ReLU()(features)
        features = layers.max_pooling()(features)
    features = keras.layers.GlobalAveragePooling2D()(features)
    return layers.dropout(model.dropout)(features)


def _linear(model: LinearModel, pixels: Any, layers: KerasLayers) -> Any:
    return keras.layers.Flatten()(scaled(pixels))


MODELS: dict[str, Callable[[Any, Any, KerasLayers], Any]] = {
    "tutorial_cnn": _tutorial_cnn,
    "cnn": _cnn,
    "linear": _linear,
    "resnet": residual_network,
    "pretrained": pretrained_network,
}
"""From (settings, pixels from 0 to 255, layers) to features, by the name in the experiment."""


def parameter_kind(variable_path: str) -> str:
    """What a trainable variable is to the arm's `decayed`: "kernel", "bias" or "normalization".

    Args:
        variable_path: Keras' path of the variable, such as "conv2d/kernel".

    Raises:
        ValueError: a variable that no model of the registry has; name its kind here.
    """
    name = variable_path.rpartition("/")[2]
    if name not in _KINDS:
        raise ValueError(f"{variable_path}: no kind of parameter is known for {name!r}")
    return _KINDS[name]


_KINDS = {
    "kernel": "kernel",
    "depthwise_kernel": "kernel",
    "pointwise_kernel": "kernel",
    "bias": "bias",
    "gamma": "normalization",
    "beta": "normalization",
}


def rate_multipliers(model: Model, variable_paths: Sequence[str]) -> list[float]:
    """What the arm's learning rate is multiplied by, for each trainable variable.

    Args:
        model: its settings.
        variable_paths: Keras' paths of the variables of the network that `build_model` made.
    """
    head_rate = model.head_rate if isinstance(model, PretrainedModel) else 1.0
    return [head_rate if path.startswith(f"{_HEAD}/") else 1.0 for path in variable_paths]


_HEAD = "logits"

"""The networks, by name: uint8 pixels in, logits out, normalization inside.

None of them carries a regularizer: the penalty belongs to the arm, and the loop adds it.
"""

from collections.abc import Callable
from typing import Any

import keras

from components.core.experiment import CnnModel, LinearModel, Model, TutorialCnnModel

DropoutLayer = Callable[..., keras.layers.Layer]


def build_model(
    model: Model,
    image_shape: tuple[int, int, int],
    class_count: int,
    dropout: DropoutLayer = keras.layers.Dropout,
) -> keras.Model:
    """Builds the network with freshly drawn weights.

    Args:
        model: its settings.
        image_shape: height, width, channels.
        class_count: number of logits.
        dropout: makes dropout layers from a rate; training passes one whose masks do not depend on the
            number of workers.

    Returns:
        A model from uint8 [batch, height, width, channels] to logits [batch, class_count], float32 or wider.
    """
    pixels = keras.Input(image_shape, dtype="uint8", name="image")
    features = MODELS[model.name](model, keras.layers.Rescaling(1 / 255)(pixels), dropout)
    # Logits are float32 under a mixed policy too: a bfloat16 softmax has three digits.
    wide = "float64" if keras.config.dtype_policy().name == "float64" else "float32"
    logits = keras.layers.Dense(class_count, name="logits")(features)
    logits = keras.layers.Activation("linear", dtype=wide, name="wide_logits")(logits)
    return keras.Model(pixels, logits, name=model.name)


def _tutorial_cnn(model: TutorialCnnModel, images: Any, dropout: DropoutLayer) -> Any:
    features = images
    for _ in range(2):
        features = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(features)
        features = keras.layers.MaxPooling2D()(features)
    return keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(features))


def _cnn(model: CnnModel, images: Any, dropout: DropoutLayer) -> Any:
    features = images
    for filters in model.filters:
        features = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(features)
        # Without synchronization every worker would normalize by, and save, statistics of its own.
        # Statistics follow within tens of steps: small data sets have few steps an epoch.
        features = keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(features)
        features = keras.layers.ReLU()(features)
        features = keras.layers.MaxPooling2D(padding="same")(features)
    features = keras.layers.GlobalAveragePooling2D()(features)
    return dropout(model.dropout)(features)


def _linear(model: LinearModel, images: Any, dropout: DropoutLayer) -> Any:
    return keras.layers.Flatten()(images)


MODELS: dict[str, Callable[[Any, Any, DropoutLayer], Any]] = {
    "tutorial_cnn": _tutorial_cnn,
    "cnn": _cnn,
    "linear": _linear,
}
"""From (settings, normalized images, dropout) to features, by the name in the experiment."""


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

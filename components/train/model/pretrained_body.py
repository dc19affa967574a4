"""The body of a Keras model that was trained before, rebuilt for the records' images and any worker count."""

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import keras

from optduel.components.core import ExperimentError
from optduel.components.pretrained import verified_copy
from optduel.components.settings import PretrainedModel
from optduel.components.train.model.layer_sets import KerasLayers

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, from 0 to 1; those of keras.applications.imagenet_utils."""

_CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Of the same, from 0 to 255, as "caffe" has them."""


def pretrained_network(model: PretrainedModel, pixels: Any, layers: KerasLayers) -> Any:
    """From pixels, 0 to 255, to the features below the new head.

    Raises:
        ExperimentError: the file is no network that images can be put through, or not these.
        StorageError: it cannot be read now.
    """
    # Keras draws the seeds of initial weights from Python's generator: those of the body, which are replaced,
    # must leave the head's as it is, whether the file was read before in this process or not.
    chance = random.getstate()
    body = _body(model)
    # A name that Keras gives may stand in the file.
    names = {layer.name for layer in _flat(body)}
    name = next(name for name in map("preprocessing_{}".format, itertools.count(1)) if name not in names)
    images = _PREPROCESSING[model.preprocessing](pixels, name)
    try:
        rebuilt = keras.models.clone_model(
            body,
            input_tensors=keras.Input(images.shape[1:], dtype=images.dtype),
            clone_function=functools.partial(_cloned, layers),
            recursive=True,
        )
        rebuilt.set_weights(body.get_weights())
        # Its layers one by one, not as a layer of its own: what is exported can be rebuilt for another size.
        features = rebuilt.call(images)
    except ValueError as error:
        reason = str(error).splitlines()[0][:120]
        raise ExperimentError(
            f"model.start = {model.start}: does not fit images of {pixels.shape[1]} x {pixels.shape[2]} "
            f"pixels: {reason}"
        ) from error
    random.setstate(chance)
    _freeze(rebuilt, model.freeze)
    # Names of their own, too: those that Keras gives may stand in the file.
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="head_pooling")(features)
    return layers.dropout(model.dropout, name="head_dropout")(features) if model.dropout else features


@functools.lru_cache(maxsize=1)
def _body(model: PretrainedModel) -> keras.Model:
    """The model without its head, as the file has it; read once for training, average and export."""
    where = f"model.start = {model.start}"
    with verified_copy(model) as path:
        try:
            whole = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:
            reason = str(error).splitlines()[0][:120]
            raise ExperimentError(f"{where}: cannot be loaded in safe mode: {reason}") from error
    if len(whole.inputs) != 1 or len(whole.outputs) != 1:
        raise ExperimentError(f"{where}: must have one input and one output, images and what is seen in them")
    return keras.Model(whole.input, _features(whole.output, where))


def _features(output: Any, where: str) -> Any:
    """What lies below a model's head, or its output where it has none."""
    if len(output.shape) == 4:
        return output
    features = output
    while isinstance(_made(features), keras.layers.Activation | keras.layers.Softmax):
        features = _made(features).input
    if isinstance(_made(features), keras.layers.Dense):
        features = _made(features).input
        while isinstance(_made(features), keras.layers.Dropout):
            features = _made(features).input
    elif features is not output or len(output.shape) != 2:
        raise ExperimentError(
            f"{where}: ends in {_made(output).name}, and not in a Dense layer or in features; save it "
            "without its top"
        )
    return features


def _made(features: Any) -> Any:
    """The layer whose output they are."""
    return features._keras_history.operation


def _cloned(layers: KerasLayers, layer: keras.layers.Layer) -> keras.layers.Layer:
    """The same layer as `layers` has it, in the precision of the day."""
    if not isinstance(layer, keras.layers.Layer):
        return layer.__class__.from_config(layer.get_config())  # an operation, which has no precision
    config = layer.get_config() | {"dtype": keras.config.dtype_policy().name}
    if isinstance(layer, keras.layers.BatchNormalization):
        config["synchronized"] = True
    return layers.cloned(layer, config)


def _freeze(body: keras.Model, last: str | None) -> None:
    if last == "body":
        body.trainable = False
        return
    within = list(_flat(body))
    names = [layer.name for layer in within]
    if last and last not in names:
        raise ExperimentError(
            f"model.freeze = {last}: belongs to the head, which is replaced; name one before"
        )
    for layer in within[: names.index(last) + 1] if last else ():
        layer.trainable = False


def _flat(model: keras.Model) -> Any:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _rescaled(scale: Any, offset: Any) -> Callable[[Any, str], Any]:
    return lambda pixels, name: keras.layers.Rescaling(scale, offset, name=name)(pixels)


def _caffe(pixels: Any, name: str) -> Any:
    """Blue, green, red, without their mean."""
    return keras.ops.flip(_rescaled(1, [-mean for mean in _CAFFE_MEAN])(pixels, name), axis=-1)


_PREPROCESSING: dict[str, Callable[[Any, str], Any]] = {
    "none": _rescaled(1, 0),  # floating point, which a convolution wants
    "tf": _rescaled(1 / 127.5, -1),
    "torch": _rescaled(
        [1 / (255 * deviation) for deviation in _DEVIATION],
        [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
    ),
    "caffe": _caffe,
}
"""From pixels, and the name of the layer, to what the model takes, by `model.preprocessing`."""

"""What a `.keras` file must be before anything is made from it; reads its JSON and numbers only.

A model file is hostile input: Keras' format can name code to run (a Lambda layer) and unpacks to any size.
So its size, its hash, the members of its archive, its layers and its numbers are looked at first.
"""

import contextlib
import hashlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optduel.components.core import ExperimentError
from optduel.components.decoding import parse_object
from optduel.components.settings import Model, PretrainedModel
from optduel.components.storage import Download, as_storage_error, download, is_remote, local_path, stat

MOST_BYTES = 2 << 30
"""Of the file, and of what it unpacks to: ten times the largest of keras.applications' usual networks."""

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"

_MODELS = ("Functional", "Sequential")

_LAYERS = frozenset(
    {
        "Activation",
        "Add",
        "Average",
        "AveragePooling2D",
        "BatchNormalization",
        "Concatenate",
        "ConvertToTensor",
        "Conv2D",
        "Cropping2D",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "ELU",
        "Flatten",
        "Flip",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling2D",
        "InputLayer",
        "LayerNormalization",
        "LeakyReLU",
        "MaxPooling2D",
        "Maximum",
        "Multiply",
        "Normalization",
        "ReLU",
        "Rescaling",
        "Reshape",
        "SeparableConv2D",
        "Softmax",
        "Subtract",
        "ZeroPadding2D",
    }
)
"""Those that treat every example alike, or that training has made exact for any number of workers."""


@contextlib.contextmanager
def verified_copy(model: PretrainedModel) -> Iterator[Path]:
    """The file on this machine, of the size and content that the experiment states.

    Raises:
        ExperimentError: there is none, it is too large, or it is another file.
        StorageError: it cannot be read now.
    """
    where = f"model.start = {model.start}"
    entry = stat(model.start)
    if entry is None:
        raise ExperimentError(f"{where}: there is no such file")
    if entry.bytes > MOST_BYTES:
        raise ExperimentError(f"{where}: has {entry.bytes:,} bytes; {MOST_BYTES:,} are the most")
    with contextlib.ExitStack() as stack:
        path = local_path(model.start) if not is_remote(model.start) else None
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optduel-"))) / "start.keras"
            download([Download(model.start, path)])
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise as_storage_error(error, path) from error
        if digest != model.sha256:
            raise ExperimentError(
                f"model.sha256 = {model.sha256}: {model.start} has {digest}; is it the file that you mean?"
            )
        yield path


def check_start(model: Model, image_shape: tuple[int, int, int]) -> None:
    """Refuses what training could not start from; a model that starts from no file has nothing to check.

    Args:
        model: its settings.
        image_shape: height, width and channels of the records.

    Raises:
        ExperimentError: what is wrong with the file, in one message.
        StorageError: it cannot be read now.
    """
    if not isinstance(model, PretrainedModel):
        return
    where = f"model.start = {model.start}"
    with verified_copy(model) as path:
        try:
            with zipfile.ZipFile(path) as archive:
                sizes = {member.filename: member.file_size for member in archive.infolist()}
                if missing := {_CONFIG, _WEIGHTS} - set(sizes):
                    raise ExperimentError(f"{where}: no Keras model: lacks {', '.join(sorted(missing))}")
                if sum(sizes.values()) > MOST_BYTES:
                    raise ExperimentError(f"{where}: unpacks to more than {MOST_BYTES:,} bytes")
                config = parse_object(archive.read(_CONFIG))
                _check_layers(where, config, model, image_shape)
                with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
                    _check_numbers(where, Path(archive.extract(_WEIGHTS, scratch)))
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
            # What a file that is no archive, or whose JSON is not Keras', gives.
            raise ExperimentError(
                f"{where}: no model in Keras' format (.keras): {str(error)[:80]}; save it with Keras 3"
            ) from error


def _check_layers(
    where: str, config: Mapping[str, Any], model: PretrainedModel, image_shape: tuple[int, int, int]
) -> None:
    if config["class_name"] not in _MODELS:
        raise ExperimentError(
            f"{where}: is a {config['class_name']}; training can start from models of the functional API "
            "and from Sequential ones"
        )
    layers = list(_layers(config))
    for layer in layers:
        kind, name = layer["class_name"], layer["config"]["name"]
        if kind == "Lambda":
            raise ExperimentError(
                f"{where}: layer {name} is a Lambda, which runs code from the file; save a model without it"
            )
        if not layer["module"].startswith("keras.") or kind not in _LAYERS:
            raise ExperimentError(
                f"{where}: layer {name} is a {kind}, of which it is not known that it computes the same "
                f"on any number of workers; known are {', '.join(sorted(_LAYERS))}"
            )
    _check_images(where, layers, image_shape)
    names = [layer["config"]["name"] for layer in layers]
    if model.freeze not in (None, "body", *names):
        raise ExperimentError(
            f"model.freeze = {model.freeze}: is no layer of {model.start}; the last ones are "
            f"{', '.join(names[-5:])}"
        )


def _layers(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those of a model, and those of models within it."""
    for layer in config["config"]["layers"]:
        if layer["class_name"] in _MODELS:
            yield from _layers(layer)
        else:
            yield layer


def _check_images(where: str, layers: list[Mapping[str, Any]], image_shape: tuple[int, int, int]) -> None:
    shapes = [layer["config"]["batch_shape"] for layer in layers if layer["class_name"] == "InputLayer"]
    first = shapes[0] if shapes else None
    if first is None or len(first) != 4 or first[-1] not in (None, image_shape[-1]):
        raise ExperimentError(
            f"{where}: takes {first if first is None else first[1:]}, where the records hold images of "
            f"{list(image_shape)}: height, width, channels"
        )
    size = first[1:3]
    is_flat = any(layer["class_name"] == "Flatten" for layer in layers)
    if is_flat and None not in size and tuple(size) != image_shape[:2]:
        raise ExperimentError(
            f"{where}: flattens images of {size[0]} x {size[1]} pixels, and fits no other size; the records' "
            f"are {image_shape[0]} x {image_shape[1]}"
        )


def _check_numbers(where: str, path: Path) -> None:
    import h5py

    def look(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or not np.issubdtype(item.dtype, np.floating):
            return
        if not np.isfinite(item[()]).all():
            raise ExperimentError(f"{where}: {name} holds numbers that are not finite; train it again")

    try:
        with h5py.File(path) as file:
            file.visititems(look)
    except OSError as error:
        raise ExperimentError(f"{where}: its weights cannot be read: {str(error)[:80]}") from error

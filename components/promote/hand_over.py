"""What is handed over with a champion: its model as a SavedModel, which serves without our code or Keras."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optduel.components.champions import Candidate
from optduel.components.core import DataError
from optduel.components.numerics import set_up_libraries

if TYPE_CHECKING:
    import tensorflow as tf

SAVED_MODEL = "saved_model"
"""Folder beside the model, as TensorFlow and TensorFlow Serving load it."""


def hand_over(candidate: Candidate, model: Path, folder: Path) -> None:
    """Writes the SavedModel into a local folder.

    Its signature `serving_default` takes `images`, uint8 [n, height, width, channels], and gives
    `probabilities`, float32 [n, classes], and `classes`, the names in the same order for each image, string
    [n, classes].

    Args:
        candidate: whose model it is.
        model: its file.
        folder: receives `saved_model/`.

    Raises:
        DataError: the model cannot be loaded in safe mode.
    """
    set_up_libraries()
    import keras
    import tensorflow as tf

    try:
        loaded = keras.saving.load_model(model, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{candidate.model}: cannot be loaded in safe mode: {reason}; train again") from error
    names = tf.constant(candidate.classes)

    def serve(images: "tf.Tensor") -> dict[str, Any]:
        probabilities = tf.nn.softmax(tf.cast(loaded(images, training=False), tf.float32))
        return {
            "probabilities": probabilities,
            "classes": tf.repeat(names[tf.newaxis], tf.shape(probabilities)[0], axis=0),
        }

    archive = keras.export.ExportArchive()
    archive.track(loaded)
    signature = tf.TensorSpec((None, *candidate.image_shape), tf.uint8, name="images")
    archive.add_endpoint("serving_default", serve, input_signature=[signature])
    archive.write_out(str(folder / SAVED_MODEL), verbose=False)
    (folder / "candidate.json").write_text(json.dumps(candidate.model_dump(mode="json")), encoding="utf-8")

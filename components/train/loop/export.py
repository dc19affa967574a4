"""The trained model as others get it: Keras' own format and layers, float32, loadable with safe_mode=True."""

import hashlib
from pathlib import Path

import keras

from optduel.components.storage import Upload, as_storage_error, upload
from optduel.components.train.contract.task import Task
from optduel.components.train.model.models import build_model


def export(task: Task, model: keras.Model, scratch: Path) -> str:
    """Publishes the model in Keras' format, made of Keras' own layers only, in float32.

    Args:
        scratch: a local folder: Keras writes to a path.

    Returns:
        The SHA-256 of what was published.

    Raises:
        StorageError: the model cannot be written.
    """
    keras.config.set_dtype_policy("float32")
    manifest = task.records.manifest
    plain = build_model(task.model, manifest.image_shape, len(manifest.classes))
    plain.set_weights(model.get_weights())
    path = scratch / "model.keras"
    try:
        plain.save(path)
    except OSError as error:
        raise as_storage_error(error, path) from error
    upload([Upload(path, task.model_file)])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The trained model as others get it: Keras' own format and layers, float32, loadable with safe_mode=True."""

import hashlib

import keras

from components.core.storage import publish
from components.train.models import build_model
from components.train.task import Task


def export(task: Task, model: keras.Model) -> str:
    """Writes the model in Keras' format, made of Keras' own layers only, in float32; returns its SHA-256."""
    keras.config.set_dtype_policy("float32")
    manifest = task.records.manifest
    plain = build_model(task.model, manifest.image_shape, len(manifest.classes))
    plain.set_weights(model.get_weights())
    scratch = task.model_file.with_name("exporting.keras")
    plain.save(scratch)
    content = scratch.read_bytes()
    publish(task.model_file, content)
    scratch.unlink()
    return hashlib.sha256(content).hexdigest()

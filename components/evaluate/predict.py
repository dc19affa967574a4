"""Runs a trained model over a whole split, once, in the order of its records."""

import os
from pathlib import Path

import numpy as np

from components.core.errors import DataError
from components.core.records import Records, SplitReader, stage

BATCH_EXAMPLES = 256
"""Examples of one forward pass: large enough to fill a processor, small enough for any memory."""


def predict(model_file: Path, records: Records, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of every example of a split.

    Args:
        model_file: a model in Keras' format whose outputs are logits.
        records: the data set.
        split: the name of the split.

    Returns:
        probabilities float64 [examples, classes], each row summing to 1, and labels int32 [examples].

    Raises:
        DataError: a shard is damaged, or the model does not fit the records.
        StorageError: a shard cannot be read or brought here.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import scipy.special

    manifest = records.manifest
    try:
        model = keras.saving.load_model(model_file, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        # What Keras raises for a file that is damaged, or that would run code of its own when loaded.
        reason = str(error).splitlines()[0]
        raise DataError(f"{model_file}: cannot be loaded in safe mode: {reason}; train again") from error
    if model.input_shape[1:] != manifest.image_shape or model.output_shape[-1] != len(manifest.classes):
        raise DataError(
            f"{model_file}: takes images {model.input_shape[1:]} of {model.output_shape[-1]} classes, "
            f"the records hold {manifest.image_shape} of {len(manifest.classes)}"
        )
    logits, labels = [], []
    with stage(records, manifest.splits[split].shards) as staged:
        reader = SplitReader(staged, split)
        shard_count = len(reader.shard_sizes)
        for start in range(0, len(reader), BATCH_EXAMPLES):
            positions = np.arange(start, min(start + BATCH_EXAMPLES, len(reader)))
            images, batch_labels = reader.read(positions % shard_count, positions // shard_count)
            logits.append(model.predict_on_batch(images))
            labels.append(batch_labels)
    return scipy.special.softmax(np.concatenate(logits).astype(np.float64), axis=1), np.concatenate(labels)

"""Runs a trained model over a whole split, once, in the order of its records."""

from typing import TYPE_CHECKING

import numpy as np

from optduel.components.records.manifest import Records
from optduel.components.records.reader import SplitReader
from optduel.components.records.staging import stage

if TYPE_CHECKING:
    import keras

BATCH_EXAMPLES = 256
"""Examples of one forward pass: large enough to fill a processor, small enough for any memory."""


def predict(model: "keras.Model", records: Records, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of every example of a split.

    Args:
        model: takes the data set's images, and gives logits.
        records: the data set.
        split: the name of the split.

    Returns:
        probabilities float64 [examples, classes], each row summing to 1, and labels int32 [examples].

    Raises:
        DataError: a shard is damaged.
        StorageError: a shard cannot be read or brought here.
    """
    import scipy.special

    logits, labels = [], []
    with stage(records, records.manifest.splits[split].shards) as staged:
        reader = SplitReader(staged, split)
        shard_count = len(reader.shard_sizes)
        for start in range(0, len(reader), BATCH_EXAMPLES):
            positions = np.arange(start, min(start + BATCH_EXAMPLES, len(reader)))
            images, batch_labels = reader.read(positions % shard_count, positions // shard_count)
            logits.append(model.predict_on_batch(images))
            labels.append(batch_labels)
    return scipy.special.softmax(np.concatenate(logits).astype(np.float64), axis=1), np.concatenate(labels)

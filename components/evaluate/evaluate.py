"""The evaluate stage's one call: from a trained model to the trial's place in the comparison."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optduel.components.core import DataError, say
from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.evaluate.model import load_model
from optduel.components.records import Records, SplitReader, load_records, stage
from optduel.components.results import TrainingRecord, Trial, read_document, read_history
from optduel.components.storage import join


def evaluate_trial(records_file: Path, model_folder: str, history_file: Path, confidence: float) -> Trial:
    """Evaluates a trained model on the data set's final split.

    Args:
        records_file: the Records document.
        model_folder: what the train stage wrote, a path or a URI: `model.keras` and `training.json`.
        history_file: the trial's history.
        confidence: level of the intervals.

    Raises:
        DataError: the model file is not the one that was trained, or not on these records.
        StorageError: a file cannot be read.
    """
    records = load_records(records_file)
    training = read_document(join(model_folder, "training.json"), TrainingRecord)
    model_file = join(model_folder, "model.keras")
    if records.manifest.fingerprint != training.data_fingerprint:
        raise DataError(f"{model_file}: was trained on records {training.data_fingerprint}, not on these")
    split = records.manifest.final_split
    model = load_model(model_file, training.model_sha256, records.manifest)
    probabilities, labels = predict(model, records, split)
    scores = evaluate_probabilities(probabilities, labels, records.manifest.classes, confidence)
    evaluation = scores.as_evaluation(training.arm, training.seed, split, training.model_sha256)
    say(
        f"evaluate {training.arm}, seed {training.seed}: {split} accuracy {evaluation.accuracy.value:.1%}, "
        f"cross-entropy {evaluation.cross_entropy.value:.4f}"
    )
    return Trial(training=training, history=read_history(history_file), evaluation=evaluation)


if TYPE_CHECKING:
    import keras

MOST_EXAMPLES = 256
"""Of one forward pass: enough to fill a processor."""

ACTIVATION_BYTES = 1 << 28
"""Of the widest layer's outputs in one forward pass; about three times as much is in memory at once."""


def examples_at_once(model: "keras.Model") -> int:
    """How many examples a forward pass may take, so that memory is bounded whatever the size of the images.

    Args:
        model: of layers that are called once each, as training exports it.
    """
    widths = [math.prod(layer.output.shape[1:]) for layer in model.layers]
    return max(1, min(MOST_EXAMPLES, ACTIVATION_BYTES // (4 * max(widths))))


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
        batch = examples_at_once(model)
        for start in range(0, len(reader), batch):
            positions = np.arange(start, min(start + batch, len(reader)))
            images, batch_labels = reader.read(positions % shard_count, positions // shard_count)
            logits.append(model.predict_on_batch(images))
            labels.append(batch_labels)
    return scipy.special.softmax(np.concatenate(logits).astype(np.float64), axis=1), np.concatenate(labels)

"""The evaluate stage's one call: from trained models to the trials' place in the comparison."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from optduel.components.core import DataError, say
from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.evaluate.model import load_model
from optduel.components.records import Records, SplitReader, load_records, stage
from optduel.components.results import (
    RECORDS_NAME,
    DivergedTrial,
    Divergence,
    Evaluation,
    Predictions,
    Row,
    Trial,
    example_ids,
    predictions_file,
    read_history,
    read_training_end,
    run_folder,
    trial_document,
    trial_folder,
    write_document,
    write_predictions,
)
from optduel.components.settings import decode
from optduel.components.storage import join, publish, read, stat


def evaluate_trials(
    records_file: Path, models: str, seeds: str, confidence: float, root: str, run: str
) -> tuple[list[Evaluation], int]:
    """Evaluates trained models on the data set's final split.

    Each trial and its predictions are kept where `compare` finds them; the trial last, so that whoever sees
    it finds the predictions, too.

    Args:
        records_file: the Records document.
        models: what the train stage wrote, a path or a URI, see `trial_folder`.
        seeds: of the trials, a JSON list.
        confidence: level of the intervals.
        root: of datasets and runs, a path or a URI.
        run: the run's name, unique below root.

    Returns:
        The evaluations of the trials that did not diverge, and how many did.

    Raises:
        DataError: a model file is not the one that was trained, or not on these records.
        StorageError: a file cannot be read, or a trial not written.
    """
    folder = run_folder(root, run)
    if stat(join(folder, RECORDS_NAME)) is None:  # of the first trial
        publish(join(folder, RECORDS_NAME), read(records_file))
    trials = []
    for seed in decode(list[int], seeds, "seeds"):
        trial, predictions = evaluate_trial(
            load_records(records_file, seed), trial_folder(models, seed), confidence
        )
        if predictions:
            write_predictions(predictions_file(folder, predictions.arm, seed), predictions)
        write_document(trial_document(folder, trial.training.arm, seed), trial)
        trials.append(trial)
    evaluations = [trial.evaluation for trial in trials if isinstance(trial, Trial)]
    return evaluations, len(trials) - len(evaluations)


def evaluate_trial(
    records: Records, model_folder: str, confidence: float
) -> tuple[Trial, Predictions] | tuple[DivergedTrial, None]:
    """Evaluates a trained model on the data set's final split; what it found, and of each example.

    A trial that diverged has nothing to evaluate. A model whose outputs for this split are not finite has
    diverged, too.

    Args:
        records: the data set.
        model_folder: what the train stage wrote, a path or a URI: `model.keras`, `training.json` and
            `history.jsonl`.
        confidence: level of the intervals.

    Raises:
        DataError: the model file is not the one that was trained, or not on these records.
        StorageError: a file cannot be read.
    """
    training = read_training_end(join(model_folder, "training.json"))
    history = read_history(join(model_folder, "history.jsonl"))
    model_file = join(model_folder, "model.keras")
    if records.manifest.fingerprint != training.data_fingerprint:
        raise DataError(f"{model_file}: was trained on records {training.data_fingerprint}, not on these")
    split = records.manifest.final_split
    if isinstance(training, Divergence):
        return _diverged(training, history, split)
    model = load_model(model_file, training.model_sha256, records.manifest)
    classes = records.manifest.classes
    probabilities, labels, examples = predict(model, records, split)
    if not np.isfinite(probabilities).all():
        trained = training.model_dump(exclude={"status", "model_sha256"})
        last = {"epoch": history[-1].epoch, "step": history[-1].step}
        ended = last | {"reason": f"an output for the {split} split"}
        return _diverged(Divergence.model_validate(trained | ended), history, split)
    scores = evaluate_probabilities(probabilities, labels, classes, confidence)
    evaluation = scores.as_evaluation(training.arm, training.seed, split, training.model_sha256)
    predictions = Predictions(
        arm=training.arm,
        seed=training.seed,
        split=split,
        model_sha256=training.model_sha256,
        classes=classes,
        examples=examples,
        labels=labels,
        probabilities=probabilities,
    )
    say(
        f"evaluate {training.arm}, seed {training.seed}: {split} accuracy {evaluation.accuracy.value:.1%}, "
        f"cross-entropy {evaluation.cross_entropy.value:.4f}"
    )
    return Trial(training=training, history=history, evaluation=evaluation, model=model_file), predictions


def _diverged(
    training: Divergence, history: tuple[Row, ...], split: Literal["test", "validation"]
) -> tuple[DivergedTrial, None]:
    say(f"evaluate {training.arm}, seed {training.seed}: diverged: {training.text}; nothing to evaluate")
    return DivergedTrial(training=training, history=history, split=split), None


if TYPE_CHECKING:
    from collections.abc import Iterator

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
    widths = [math.prod(layer.output.shape[1:]) for layer in _layers_of(model)]
    return max(1, min(MOST_EXAMPLES, ACTIVATION_BYTES // (4 * max(widths))))


def _layers_of(model: "keras.Model") -> "Iterator[keras.layers.Layer]":
    """Its layers, and those of models within it."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers_of(layer)
        else:
            yield layer


def predict(
    model: "keras.Model", records: Records, split: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Class probabilities of every example of a split.

    Args:
        model: takes the data set's images, and gives logits.
        records: the data set.
        split: the name of the split.

    Returns:
        probabilities float64 [examples, classes], each row summing to 1, or not finite where the model's
        outputs are not, labels int64 [examples], and the examples' ids.

    Raises:
        DataError: a shard is damaged.
        StorageError: a shard cannot be read or brought here.
    """
    import scipy.special

    logits, labels, examples = [], [], list[str]()
    with stage(records, records.manifest.splits[split].shards) as staged:
        reader = SplitReader(staged, split)
        shard_count = len(reader.shard_sizes)
        batch = examples_at_once(model)
        for start in range(0, len(reader), batch):
            positions = np.arange(start, min(start + batch, len(reader)))
            images, batch_labels = reader.read(positions % shard_count, positions // shard_count)
            logits.append(model.predict_on_batch(images))
            labels.append(batch_labels)
            examples += example_ids(images, batch_labels)
    with np.errstate(invalid="ignore"):  # of outputs that are not finite, which the caller looks for
        probabilities = scipy.special.softmax(np.concatenate(logits).astype(np.float64), axis=1)
    return probabilities, np.concatenate(labels).astype(np.int64), tuple(examples)

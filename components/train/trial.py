"""The train stage's one call: a trial from its sections to a trained model and its history."""

import json
from collections.abc import Mapping
from pathlib import Path

from components.core.authoring import validate
from components.core.experiment import canonical_json
from components.core.history import epochs_of, read_history, write_history
from components.core.records import load_records
from components.core.results import TrainingRecord, read_document
from components.core.storage import publish
from components.train.launch import LocalLauncher
from components.train.task import Task


def train_trial(
    sections: Mapping[str, str],
    seed: int,
    records_file: Path,
    output: Path,
    history_file: Path,
    metrics_file: Path,
) -> dict[str, float | str]:
    """Trains a trial on this host.

    Args:
        sections: canonical JSON of the experiment's `model`, `arm`, `training` and `compute`.
        seed: of initial weights, data order and dropout.
        records_file: the Records document.
        output: folder for the model and all that belongs to it, see `Task`.
        history_file: where the whole history goes in the end.
        metrics_file: where the returned numbers go, as JSON.

    Returns:
        The last epoch in numbers, by name, and the model's SHA-256.

    Raises:
        OptduelError: what ended the trial; checkpoints stay.
    """
    authored = {name: json.loads(text) for name, text in sections.items()}
    records = load_records(records_file)
    task = validate(Task, {**authored, "seed": seed, "records": records, "output": str(output)}, "train")
    LocalLauncher().run(task)
    record = read_document(task.record_file, TrainingRecord)
    rows = read_history(task.history_file)
    write_history(history_file, rows)
    trained, validated = epochs_of(rows, "train")[-1], epochs_of(rows, "validation")[-1]
    numbers: dict[str, float | str] = {
        "train_accuracy": trained.accuracy,
        "train_cross_entropy": trained.cross_entropy,
        "train_penalty": trained.penalty,
        "validation_accuracy": validated.accuracy,
        "validation_cross_entropy": validated.cross_entropy,
        "examples_per_second": trained.examples_per_second,
        "training_seconds": record.seconds,
        "model_sha256": record.model_sha256,
    }
    publish(metrics_file, canonical_json(numbers).encode())
    return numbers

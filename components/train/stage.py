"""The train stage's one call: a trial from its sections to a trained model and its history."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from optduel.components.core import ExperimentError
from optduel.components.records import load_records
from optduel.components.results import TrainingRecord, epochs_of, read_document, read_history, write_history
from optduel.components.settings import canonical_json, oversized_batch, validate
from optduel.components.storage import join, publish
from optduel.components.train.contract.finished import finished_record, register, take_over
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import Launcher, LocalLauncher
from optduel.components.train.loop import checkpoint

MODELS_VARIABLE = "OPTDUEL_MODELS"
"""Names the folder for all models, a path or a URI, where artifacts themselves lie on this machine."""

_LOCAL = LocalLauncher()


def model_folder(artifact: str, arm: str, seed: int) -> str:
    """Where a trial's model goes: to the artifact's own place, unless the environment names another.

    Args:
        artifact: the place that Kubeflow Pipelines gives the model, a path or a URI.
        arm: canonical JSON of the arm.
        seed: of the trial.
    """
    models = os.environ.get(MODELS_VARIABLE)
    return join(models, json.loads(arm)["name"], f"seed-{seed}") if models else artifact


def train_trial(
    sections: Mapping[str, str],
    seed: int,
    records_file: Path,
    output: str,
    history_file: Path,
    metrics_file: Path,
    launcher: Launcher = _LOCAL,
    root: str | None = None,
) -> dict[str, float | str]:
    """Trains a trial.

    Args:
        sections: canonical JSON of the experiment's `model`, `arm`, `training` and `compute`.
        seed: of initial weights, data order and dropout.
        records_file: the Records document.
        output: folder for the model and all that belongs to it, a path or a URI, see `Task`.
        history_file: where the whole history goes in the end.
        metrics_file: where the returned numbers go, as JSON.
        launcher: runs the workers; on this host unless given.
        root: of datasets, trials and runs, where the same trial of an earlier run is taken over and this one
            is found later; a path or a URI.

    Returns:
        The last epoch in numbers, by name, and the model's SHA-256.

    Raises:
        OptduelError: what ended the trial; checkpoints stay, until the trial is complete.
    """
    authored = {name: json.loads(text) for name, text in sections.items()}
    records = load_records(records_file)
    task = validate(Task, {**authored, "seed": seed, "records": records, "output": output}, "train")
    batch, examples = task.training.global_batch_size, records.manifest.splits["train"].records
    if batch > examples:
        raise ExperimentError(oversized_batch(batch, examples))
    record = finished_record(task) or (take_over(task, root) if root else None)
    if record is None:
        launcher.run(task)
        record = read_document(task.record_file, TrainingRecord)
    if root:
        register(task, root, record)
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
    # Nothing can go on from here any more, and Kubeflow Pipelines copies all of a model's folder to whoever
    # takes the model.
    checkpoint.discard(task.checkpoint_folder)
    return numbers

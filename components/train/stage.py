"""The train stage's one call: trials of an arm, from its sections to trained models and their histories."""

import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from optduel.components.core import ExperimentError
from optduel.components.pretrained import check_start
from optduel.components.records import load_records
from optduel.components.results import Divergence, epochs_of, read_history, read_training_end, trial_folder
from optduel.components.settings import canonical_json, decode, oversized_batch, validate
from optduel.components.storage import join, publish
from optduel.components.train.contract.finished import finished_record, register, take_over
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import Launcher, LocalLauncher
from optduel.components.train.loop import checkpoint

MODELS_VARIABLE = "OPTDUEL_MODELS"
"""Names the folder for all models, a path or a URI, where artifacts themselves lie on this machine."""


def models_folder(artifact: str, sections: str) -> str:
    """Where an arm's models go: to the artifact's own place, unless the environment names another.

    Args:
        artifact: the place that Kubeflow Pipelines gives the models, a path or a URI.
        sections: as `train_trials` takes them.
    """
    models = os.environ.get(MODELS_VARIABLE)
    return join(models, str(_sections(sections)["arm"]["name"])) if models else artifact


def _sections(text: str) -> dict[str, dict[str, object]]:
    return decode(dict[str, dict[str, object]], text, "sections")


def train_trials(
    sections: str,
    seeds: str,
    root: str,
    records_file: Path,
    models: str,
    metrics_file: Path,
    launcher: Callable[[str], Launcher] = lambda _: LocalLauncher(),
) -> dict[str, float]:
    """Trains trials of one arm, one after the other; those that are complete already stay as they are.

    Args:
        sections: the experiment's `model`, `arm`, `training` and `compute`, as one JSON object.
        seeds: of the trials, a JSON list.
        root: of datasets, trials and runs, a path or a URI, see `train_trial`.
        records_file: the Records document.
        models: folder for all of the arm's models, a path or a URI; each gets one in it, `trial_folder`.
        metrics_file: where the returned numbers go, as JSON.
        launcher: makes what runs the workers of the trial in a folder; on this host unless given.

    Returns:
        The last epoch in numbers, by name: of several trials each number's median. Trials that diverged are
        not in it; where there are any, "diverged" says how many.

    Raises:
        OptduelError: what ended a trial; its checkpoints stay, until it is complete.
    """
    folders = {seed: trial_folder(models, seed) for seed in decode(list[int], seeds, "seeds")}
    numbers = [
        train_trial(_sections(sections), seed, records_file, folder, launcher(folder), root)
        for seed, folder in folders.items()
    ]
    finished = [one for one in numbers if "diverged" not in one]
    medians = {name: statistics.median(one[name] for one in finished) for one in finished[:1] for name in one}
    if len(finished) < len(numbers):
        medians["diverged"] = float(len(numbers) - len(finished))
    publish(metrics_file, canonical_json(medians).encode())
    return medians


def train_trial(
    sections: Mapping[str, object],
    seed: int,
    records_file: Path,
    output: str,
    launcher: Launcher,
    root: str | None = None,
) -> dict[str, float]:
    """Trains a trial; one that is complete stays as it is.

    Args:
        sections: the experiment's `model`, `arm`, `training` and `compute`.
        seed: of initial weights, data order and dropout.
        records_file: the Records document.
        output: folder for the model and all that belongs to it, a path or a URI, see `Task`.
        launcher: runs the workers.
        root: of datasets, trials and runs, where the same trial of an earlier run is taken over and this one
            is found later; a path or a URI.

    Returns:
        The last epoch in numbers, by name; of a trial that diverged "diverged" alone, 1.

    Raises:
        OptduelError: what ended the trial; checkpoints stay, until the trial is complete.
    """
    records = load_records(records_file, seed)
    task = validate(Task, {**sections, "seed": seed, "records": records, "output": output}, "train")
    batch, examples = task.training.global_batch_size, records.manifest.splits["train"].records
    if batch > examples:
        raise ExperimentError(oversized_batch(batch, examples))
    record = finished_record(task) or (take_over(task, root) if root else None)
    if record is None:
        check_start(task.model, records.manifest.image_shape)
        launcher.run(task)
        record = read_training_end(task.record_file)
    if root:
        register(task, root, record)
    # Nothing can go on from here any more, and Kubeflow Pipelines copies all of a model's folder to whoever
    # takes the model.
    checkpoint.discard(task.checkpoint_folder)
    if isinstance(record, Divergence):
        return {"diverged": 1.0}
    rows = read_history(task.history_file)
    trained, validated = epochs_of(rows, "train")[-1], epochs_of(rows, "validation")[-1]
    return {
        "train_accuracy": trained.accuracy,
        "train_cross_entropy": trained.cross_entropy,
        "train_penalty": trained.penalty,
        "validation_accuracy": validated.accuracy,
        "validation_cross_entropy": validated.cross_entropy,
        "examples_per_second": trained.examples_per_second,
        "training_seconds": record.seconds,
    }

"""The train stage's one call: trials of an arm, from its sections to trained models and their histories."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from optduel.components.core import ExperimentError
from optduel.components.pretrained import check_start
from optduel.components.records import Records, load_records
from optduel.components.results import (
    Divergence,
    TrainingRecord,
    epochs_of,
    read_history,
    read_training_end,
    trial_folder,
)
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
    chosen: str,
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
        chosen: what tuning has found, as JSON: values by path, by arm; empty where the arm trains as typed
            in.
        seeds: of the trials, a JSON list.
        root: of datasets, trials and runs, where the same trial of an earlier run is taken over and these are
            found later; a path or a URI. Empty: neither.
        records_file: the Records document.
        models: folder for all of the arm's models, a path or a URI; each gets one in it, `trial_folder`.
        metrics_file: where the returned numbers go, as JSON.
        launcher: makes what runs the workers of the trials in a folder; on this host unless given.

    Returns:
        The last epoch in numbers, by name: of several trials each number's median, over those that did not
        diverge; and how many did, if any, as "diverged".

    Raises:
        OptduelError: what ended a trial; its checkpoints stay, until it is complete.
    """
    authored = _sections(sections)
    settings = decode(dict[str, dict[str, float]], chosen, "chosen") if chosen else {}
    found = settings[str(authored["arm"]["name"])] if settings else {}
    typed = [
        _task(authored, seed, load_records(records_file, seed), trial_folder(models, seed))
        for seed in decode(list[int], seeds, "seeds")
    ]
    tasks = [task.with_setting(found) for task in typed]
    home = tasks[0].output if len(tasks) == 1 else models
    numbers = _train(tasks, launcher, home, root)
    finished = [one for one in numbers if "diverged" not in one]
    medians = {name: statistics.median(one[name] for one in finished) for one in finished[:1] for name in one}
    if len(finished) < len(numbers):
        medians["diverged"] = float(len(numbers) - len(finished))
    publish(metrics_file, canonical_json(medians).encode())
    return medians


def _task(sections: Mapping[str, object], seed: int, records: Records, output: str) -> Task:
    return checked(validate(Task, {**sections, "seed": seed, "records": records, "output": output}, "train"))


def checked(task: Task) -> Task:
    """The task. Raises ExperimentError where its batch is larger than the training split."""
    batch, examples = task.training.global_batch_size, task.records.manifest.splits["train"].records
    if batch > examples:
        raise ExperimentError(oversized_batch(batch, examples))
    return task


def _train(
    tasks: Sequence[Task], launcher: Callable[[str], Launcher], home: str, root: str
) -> list[dict[str, float]]:
    """Trains what is not known yet, with one group of workers; returns each trial's last epoch in numbers."""
    records = {
        task.output: finished_record(task) or (take_over(task, root) if root else None) for task in tasks
    }
    left = [task for task in tasks if records[task.output] is None]
    for group in _of_equal_records(left):
        # One name in every attempt, also when an earlier one has finished some of them.
        place = home if len({task.records.location for task in tasks}) == 1 else group[0].output
        run_together(group, launcher(place), place)
    numbers = []
    for task in tasks:
        record = records[task.output] or read_training_end(task.record_file)
        if root:
            register(task, root, record)
        numbers.append({"diverged": 1.0} if isinstance(record, Divergence) else _numbers(task, record))
    discard_checkpoints(tasks)
    return numbers


def _of_equal_records(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks that one group of workers can train; with `study.vary_split` each seed has its records."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.records.location, []).append(task)
    return list(groups.values())


def run_together(tasks: Sequence[Task], launcher: Launcher, home: str) -> None:
    """Trains trials with one group of workers, one after the other; returns when all are complete.

    Args:
        tasks: one or more; they share model, training, compute and records.
        launcher: runs the workers.
        home: folder of what belongs to all of them together, a path or a URI: the same in every attempt.

    Raises:
        OptduelError: what ended the workers; what was complete by then is kept.
    """
    first, *others = tasks
    check_start(first.model, first.records.manifest.image_shape)
    launcher.run(first.with_following(others, home))


def discard_checkpoints(tasks: Sequence[Task]) -> None:
    """Deletes those of trials that are complete.

    Nothing can go on from there any more, and Kubeflow Pipelines copies all of a model's folder to whoever
    takes the model.
    """
    for task in tasks:
        checkpoint.discard(task.checkpoint_folder)


def _numbers(task: Task, record: TrainingRecord) -> dict[str, float]:
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

"""Chooses a run's candidate by its validation images; the test split, which judges it, never chooses."""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from optduel.components.champions.champion import Candidate
from optduel.components.core import DataError, TrainingError
from optduel.components.records import Manifest
from optduel.components.results import (
    CHOICE_NAME,
    Choice,
    DivergedTrial,
    Trial,
    epochs_of,
    read_document,
    read_trial_end,
    run_folder,
    trial_document,
)
from optduel.components.settings import Arm, Experiment
from optduel.components.storage import join, stat


def select_candidate(
    root: str,
    run: str,
    experiment: Experiment,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    manifest: Manifest,
    metric: Literal["accuracy", "cross_entropy", "macro_f1"],
) -> Candidate:
    """The best of a run's trials: of the arm whose median over the seeds is best, the best one.

    Args:
        experiment: that was run.
        arms: that were trained, with the settings they were trained with.
        seeds: of each arm's trials.
        manifest: of the records.
        metric: that decides, on the validation split; accuracy where it is macro F1, which is not measured
            there.

    Raises:
        DataError: a trial is missing.
        TrainingError: all trials have diverged.
        StorageError: a trial cannot be read.
    """
    folder = run_folder(root, run)
    trials = {arm.name: run_trials(root, run, [arm], seeds) for arm in arms}

    def score(trial: Trial | DivergedTrial) -> float:
        if isinstance(trial, DivergedTrial):
            return -math.inf
        last = epochs_of(trial.history, "validation")[-1]
        return -last.cross_entropy if metric == "cross_entropy" else last.accuracy

    scores = {name: [score(trial) for trial in of_arm] for name, of_arm in trials.items()}
    best = max(scores, key=lambda name: statistics.median(scores[name]))
    number = max(range(len(seeds)), key=lambda index: scores[best][index])
    trial, arm = trials[best][number], next(arm for arm in arms if arm.name == best)
    if isinstance(trial, DivergedTrial):
        raise TrainingError(
            f"{folder}: all trials of {best} have diverged: {trial.training.text}; lower its learning rate"
        )
    evaluation = trial.evaluation
    return Candidate(
        run=run,
        experiment=experiment.name,
        fingerprint=experiment.fingerprint,
        data_fingerprint=trial.training.data_fingerprint,
        code_version=trial.training.environment.code_version,
        arm=arm,
        seed=trial.training.seed,
        model=trial.model,
        model_sha256=trial.training.model_sha256,
        classes=manifest.classes,
        image_shape=manifest.image_shape,
        images={name: split.records for name, split in manifest.splits.items()},
        copies=manifest.duplicates.images,
        originals=manifest.originals,
        examples=evaluation.examples,
        accuracy=evaluation.accuracy,
        cross_entropy=evaluation.cross_entropy,
        macro_f1=evaluation.macro_f1,
        calibration_error=evaluation.expected_calibration_error,
    )


def trained_arms(root: str, run: str, experiment: Experiment) -> Sequence[Arm]:
    """The arms of a whole comparison as it trained them: where they were tuned, with what was chosen.

    Raises:
        StorageError: what was chosen cannot be read.
        DataError: it is damaged.
    """
    if experiment.tuning is None:
        return experiment.arms
    return read_document(join(run_folder(root, run), CHOICE_NAME), Choice).settled(experiment.arms)


def run_trials(root: str, run: str, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Trial | DivergedTrial]:
    """A run's trials, arm by arm in the order of seeds. Raises as `select_candidate` does."""
    folder = run_folder(root, run)
    return [_trial(folder, arm.name, seed) for arm in arms for seed in seeds]


def _trial(folder: str, arm: str, seed: int) -> Trial | DivergedTrial:
    place = trial_document(folder, arm, seed)
    if stat(place) is None:
        raise DataError(f"{place}: trial {arm}, seed {seed}, is missing; run it again")
    return read_trial_end(place)

"""Trials as they would be if some of them had diverged."""

from collections.abc import Collection

from optduel.components.results import DivergedTrial, Divergence, Trial, Trials


def diverge(trial: Trial, step: int = 7, rows: int = 0) -> DivergedTrial:
    """The trial, ended after `rows` rows of its history."""
    trained = trial.training.model_dump(exclude={"status", "model_sha256"})
    ended = {"epoch": 1, "step": step, "reason": "loss or gradient"}
    return DivergedTrial(
        training=Divergence.model_validate(trained | ended),
        history=trial.history[:rows],
        split=trial.evaluation.split,
    )


def with_lost(trials: Trials, lost: Collection[tuple[str, int]]) -> Trials:
    """The trials, of which those that are named by arm and seed diverged."""
    kept, diverged = [], []
    for trial in trials.trials:
        if (trial.training.arm, trial.training.seed) in lost:
            diverged.append(diverge(trial))
        else:
            kept.append(trial)
    return Trials(trials=tuple(kept), diverged=tuple(diverged))

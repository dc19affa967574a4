"""Gathers trials, one arm at a time, and refuses what does not belong together."""

from collections.abc import Sequence

from optduel.components.core.errors import DataError
from optduel.components.results.documents import Trial, Trials


def collect(previous: Trials | None, trials: Sequence[Trial]) -> Trials:
    """Adds trials to those collected before, in order.

    Args:
        previous: what an earlier call returned; None in the first call.

    Raises:
        DataError: a trial's parts belong to different models, a trial comes twice, or two trials were
            trained on different records.
    """
    gathered = (previous.trials if previous else ()) + tuple(trials)
    seen: set[tuple[str, int]] = set()
    for trial in gathered:
        training, evaluation = trial.training, trial.evaluation
        name = trial_name(trial)
        for part in ("arm", "seed", "model_sha256"):
            trained, evaluated = getattr(training, part), getattr(evaluation, part)
            if trained != evaluated:
                raise DataError(
                    f"{name}: {part} = {evaluated} was evaluated, {trained} trained; evaluate again"
                )
        if (training.arm, training.seed) in seen:
            raise DataError(f"{name}: is there twice; a repeated seed is no new evidence")
        if training.data_fingerprint != gathered[0].training.data_fingerprint:
            raise DataError(
                f"{name}: data = {training.data_fingerprint}, but {trial_name(gathered[0])} was trained on "
                f"{gathered[0].training.data_fingerprint}; run the study again"
            )
        seen.add((training.arm, training.seed))
    return Trials(trials=gathered)


def trial_name(trial: Trial) -> str:
    """How messages call a trial."""
    return f"trial {trial.training.arm}, seed {trial.training.seed}"

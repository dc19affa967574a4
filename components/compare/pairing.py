"""Arranges trials so that the arms can be compared seed by seed."""

from collections.abc import Sequence

from optduel.components.compare.collect import trial_name
from optduel.components.core.errors import DataError
from optduel.components.results.documents import Trial, Trials


def pair(arms: Sequence[str], seeds: Sequence[int], trials: Trials) -> dict[str, tuple[Trial, ...]]:
    """The trials of each arm, one per seed, in the order of `seeds`.

    Raises:
        DataError: a trial is missing or not part of the study, or the trials were not evaluated on one split.
    """
    found = {(trial.training.arm, trial.training.seed): trial for trial in trials.trials}
    wanted = [(arm, seed) for arm in arms for seed in seeds]
    missing = [key for key in wanted if key not in found]
    foreign = [key for key in found if key not in wanted]
    if missing or foreign:
        problems = [f"trial {arm}, seed {seed}: is missing" for arm, seed in missing]
        problems += [f"trial {arm}, seed {seed}: is not part of the study" for arm, seed in foreign]
        raise DataError("\n".join(["trials: do not pair up by seed; run the study again", *problems]))
    first = found[wanted[0]]
    for trial in found.values():
        if _evaluated_on(trial) != _evaluated_on(first):
            raise DataError(
                f"{trial_name(trial)}: was evaluated on {_evaluated_on(trial)}, but {trial_name(first)} on "
                f"{_evaluated_on(first)}; evaluate again"
            )
    return {arm: tuple(found[arm, seed] for seed in seeds) for arm in arms}


def _evaluated_on(trial: Trial) -> str:
    return f"{trial.evaluation.examples} examples of the {trial.evaluation.split} split"

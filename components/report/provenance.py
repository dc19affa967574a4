"""Where the numbers come from: the machines and the packages, trial by trial."""

from collections.abc import Sequence

from optduel.components.core import seconds_in_words
from optduel.components.results import DivergedTrial, Environment, Trial


def environments(trials: Sequence[Trial | DivergedTrial]) -> list[tuple[str, Environment]]:
    """Each environment that trials ran in, with the trials that did."""
    found: dict[str, tuple[Environment, list[str]]] = {}
    for trial in trials:
        environment = trial.training.environment
        _, names = found.setdefault(environment.canonical_json(), (environment, []))
        names.append(f"{trial.training.arm} seed {trial.training.seed}")
    if len(found) == 1:
        return [("all trials", environment) for environment, _ in found.values()]
    return [(", ".join(names), environment) for environment, names in found.values()]


def trial_times(trial: Trial | DivergedTrial) -> tuple[str, str]:
    """When training started and how long it took, for people."""
    started = trial.training.started.replace("T", " ").replace("+00:00", " UTC")
    return started, seconds_in_words(trial.training.seconds)

"""What an experiment's author should know before spending time on it: reasons why its verdict may mislead."""

from itertools import combinations

from components.core.decay import COMPARABLE_FACTOR, coefficient_per_step
from components.core.experiment import Experiment
from components.core.repetition import seeds_needed


def cautions(experiment: Experiment) -> list[str]:
    """One sentence for each reason; none for a fair, sufficiently repeated comparison."""
    return [
        *_too_few_seeds(experiment),
        *_no_test_split(experiment),
        *_different_schedules(experiment),
        *_different_strengths(experiment),
    ]


def _too_few_seeds(experiment: Experiment) -> list[str]:
    study = experiment.study
    needed = seeds_needed(study.confidence, len(experiment.arms) - 1)
    if len(study.seeds) >= needed:
        return []
    return [
        f"study.seeds = {list(study.seeds)}: {len(study.seeds)} paired seed(s) can never show a difference "
        f"at {study.confidence:.0%} confidence; {needed} are the least"
    ]


def _no_test_split(experiment: Experiment) -> list[str]:
    source = experiment.data.source
    if experiment.data.split.test or getattr(source, "test_split", None):
        return []
    return ["data.split.test = 0: final metrics are taken on the validation split, there is no untouched one"]


def _different_schedules(experiment: Experiment) -> list[str]:
    shapes = {(arm.learning_rate.schedule, arm.learning_rate.warmup_epochs) for arm in experiment.arms}
    if len(shapes) == 1:
        return []
    return ["arms.*.learning_rate: the arms differ in schedule or warm-up, not in the optimizer alone"]


def _different_strengths(experiment: Experiment) -> list[str]:
    strengths = {arm.name: coefficient_per_step(arm) for arm in experiment.arms}
    known = {name: strength for name, strength in strengths.items() if strength}
    found = []
    for one, other in combinations(known, 2):
        weak, strong = sorted((one, other), key=lambda name: known[name])
        ratio = known[strong] / known[weak]
        if ratio > COMPARABLE_FACTOR:
            found.append(
                f"arms: {strong} shrinks weights {ratio:,.0f} times as fast as {weak} "
                f"({known[strong]:.2g} against {known[weak]:.2g} a step); see `optduel show --examples`"
            )
    return found

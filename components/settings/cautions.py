"""What an experiment's author should know before spending time on it: reasons why its verdict may mislead."""

from itertools import combinations

from optduel.components.settings.decay import COMPARABLE_FACTOR, coefficient_per_step, overshoots
from optduel.components.settings.experiment import Experiment, Source
from optduel.components.settings.schedules import schedules_differ
from optduel.components.storage import is_remote, local_path


def cautions(experiment: Experiment) -> list[str]:
    """One sentence for each reason; none for a fair, sufficiently repeated comparison."""
    return [
        *_absent_images(experiment.data.source),
        *_too_few_seeds(experiment),
        *_no_test_split(experiment),
        *_different_schedules(experiment),
        *_overshooting(experiment),
        *_different_strengths(experiment),
    ]


def _absent_images(source: Source) -> list[str]:
    places = {name: getattr(source, name, None) for name in ("path", "archive", "data_dir")}
    return [
        f"data.source.{name} = {place}: is not on this machine"
        for name, place in places.items()
        if place and not is_remote(place) and not local_path(place).exists()
    ]


def _too_few_seeds(experiment: Experiment) -> list[str]:
    study = experiment.study
    needed = seeds_needed(study.confidence, len(experiment.arms) - 1)
    if len(study.seeds) >= needed:
        return []
    return [
        f"study.seeds = {list(study.seeds)}: {len(study.seeds)} paired seed(s) can never show a difference "
        f"at {100 * study.confidence:.6g} % confidence; {needed} are the least"
    ]


def _no_test_split(experiment: Experiment) -> list[str]:
    source = experiment.data.source
    if experiment.data.split.test or getattr(source, "test_split", None):
        return []
    return ["data.split.test = 0: final metrics are taken on the validation split, there is no untouched one"]


def _different_schedules(experiment: Experiment) -> list[str]:
    if not schedules_differ(experiment.arms):
        return []
    return ["arms.*.learning_rate: the arms differ in schedule or warm-up, not in the optimizer alone"]


def _overshooting(experiment: Experiment) -> list[str]:
    return [
        f"arms.{arm.name}: learning_rate.base times weight_decay = {coefficient_per_step(arm):.3g}: above 1 "
        "a step takes away more than the whole weight, and weights grow"
        for arm in experiment.arms
        if overshoots(arm)
    ]


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


def seeds_needed(confidence: float, comparisons: int) -> int:
    """The smallest number of paired seeds with which a difference can be shown.

    A two-sided sign-flip test of n pairs cannot fall below p = 2 / 2^n, and Holm's correction multiplies
    that by the number of comparisons.

    Args:
        confidence: a difference is shown when p < 1 - confidence.
        comparisons: arms that are compared with the first.

    Example:
        >>> seeds_needed(0.95, comparisons=1), seeds_needed(0.99, comparisons=1)
        (6, 8)
    """
    seeds = 2
    while comparisons * 2.0 ** (1 - seeds) >= 1 - confidence:
        seeds += 1
    return seeds

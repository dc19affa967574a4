"""The tuning of a study: which settings of an arm are tried, drawn from the experiment and nothing else."""

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from optduel.components.settings.arms import Arm, BaseArm
from optduel.components.settings.search import Range
from optduel.components.settings.section import PositiveInt, Section, canonical_json

Setting = Mapping[str, float]
"""Values by path: one point of an arm's search space."""


class Tuning(Section):
    """The search for each arm's setting, with one budget for all arms.

    Attributes:
        trials: settings that are tried for every arm, each with every one of `seeds`.
        sampler: how they are drawn. "random" draws independently, which the confidence bands of the tuning
            curves need; "sobol" spreads them more evenly; "grid" takes all combinations of equally many
            values of each continuous range and of all listed ones.
        seeds: of the tuning's trials, none of them a seed of the study.
        metric: on the validation split at the end of training, by which a setting is chosen; of equal ones
            the other metric decides.
        target: of `metric`; the report tells after how long each arm reached it.
        tasks: how many tasks share the settings of an arm at a time; changes no numbers, and is no part of
            the fingerprint.
    """

    trials: Annotated[int, Field(ge=2, le=10_000)]
    sampler: Literal["random", "sobol", "grid"] = "random"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=100)]
    metric: Literal["accuracy", "cross_entropy"] = "accuracy"
    target: float | None = None
    tasks: Annotated[PositiveInt, Field(le=100)] = 1

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("must differ from each other: a repeated seed is no new evidence")
        return seeds


Points = NDArray[np.float64]
"""Places in the unit cube, float64 [trials, ranges]."""


def _random(ranges: Sequence[Range], trials: int, generator: np.random.Generator) -> Points:
    return generator.random((trials, len(ranges)))


def _sobol(ranges: Sequence[Range], trials: int, generator: np.random.Generator) -> Points:
    from scipy.stats import qmc

    # Scrambled by Owen's method; of a power of two the first ones are as even as they can be.
    exponent = math.ceil(math.log2(trials))
    points: Points = qmc.Sobol(len(ranges), scramble=True, rng=generator).random_base2(exponent)
    return points[:trials]


def _grid(ranges: Sequence[Range], trials: int, generator: np.random.Generator) -> Points:
    axes = [
        # A listed value stands in the middle of its part of the places.
        (np.arange(size) + 0.5) / size if range_.count else np.linspace(0, 1, size)
        for range_, size in zip(ranges, grid_sizes(ranges, trials), strict=True)
    ]
    return np.array(list(itertools.product(*axes)), dtype=np.float64)


SAMPLERS: dict[str, Callable[[Sequence[Range], int, np.random.Generator], Points]] = {
    "random": _random,
    "sobol": _sobol,
    "grid": _grid,
}
"""By the name in the experiment. All but a grid give the same first settings whatever the number of
trials."""


def grid_sizes(ranges: Sequence[Range], trials: int) -> list[int]:
    """How many values of each range a grid of so many settings has.

    Raises:
        ValueError: no grid has that many; names the nearest numbers that one has.
    """
    listed = math.prod(range_.count or 1 for range_ in ranges)
    continuous = sum(range_.count is None for range_ in ranges)
    if continuous == 0:
        if trials != listed:
            raise ValueError(f"the listed values have {listed} combinations; give tuning.trials = {listed}")
        return [range_.count or 1 for range_ in ranges]
    side = max(2, round((trials / listed) ** (1 / continuous)))
    if listed * side**continuous != trials:
        near = ", ".join(str(listed * one**continuous) for one in range(max(2, side - 1), side + 2))
        raise ValueError(
            f"a grid over {continuous} continuous range{'' if continuous == 1 else 's'} and {listed} "
            f"combination{'' if listed == 1 else 's'} of listed values has so many settings: {near}"
        )
    return [range_.count or side for range_ in ranges]


def settings_of(arm: Arm, tuning: Tuning) -> list[dict[str, float]]:
    """The settings that the tuning tries for an arm, in order.

    Their places in the space follow from the sampler and the tuning's seeds alone. So arms that search as
    many fields get the same places, and none is luckier than another. More trials continue the list, but for
    a grid's.
    """
    # In an order that arms share: what states the decay has two names.
    paths = sorted(arm.search, key=lambda path: "decay" if path == arm.decay_field else path)
    ranges = [arm.search[path] for path in paths]
    drawn_from = {"sampler": tuning.sampler, "seeds": tuning.seeds}
    digest = hashlib.sha256(canonical_json(drawn_from).encode()).digest()
    # NumPy keeps Philox' stream stable from one release to the next.
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(list(digest))))
    points = SAMPLERS[tuning.sampler](ranges, tuning.trials, generator)
    return [
        {path: range_.at(float(place)) for path, range_, place in zip(paths, ranges, point, strict=True)}
        for point in points
    ]


def problems(arms: Sequence[Arm], tuning: Tuning | None, study_seeds: Sequence[int]) -> list[str]:
    """What makes a tuning pointless or unfair, a line each, as "path: rule or remedy"."""
    if tuning is None:
        return []
    found = [
        f"arms.{arm.name}.search: is empty: tuning gives every arm the same number of trials; name a range, "
        "for example learning_rate.base: {scale: log, low: 0.001, high: 0.1}"
        for arm in arms
        if not arm.search
    ]
    if common := sorted(set(tuning.seeds) & set(study_seeds)):
        found.append(
            f"tuning.seeds: {', '.join(map(str, common))}: are seeds of the study, too; a setting that was "
            "chosen on a seed looks too good there, so take others"
        )
    for one, other in itertools.combinations(arms, 2):
        if _without_name(one) == _without_name(other):
            found.append(f"arms.{other.name}: equals {one.name}, search included; leave one of them out")
    if tuning.sampler == "grid":
        for arm in arms:
            try:
                grid_sizes(list(arm.search.values()), tuning.trials)
            except ValueError as error:
                found.append(f"tuning.trials = {tuning.trials}: arms.{arm.name}.search: {error}")
    return found


def _without_name(arm: BaseArm) -> dict[str, object]:
    return arm.model_dump(exclude={"name"})

"""What simulated studies say of intervals, tests and promises. Each test prints its counts: `pytest -rP`."""

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from optduel.components.compare.crossed import per_image, resampled, variance_components
from optduel.components.compare.inference import SignFlips
from optduel.components.compare.planning import POWER, images_to_show, seeds_to_show
from optduel.components.settings import Metric, Tuning, looks_until, settings_of
from optduel.pipeline.cli.shipped import load_experiment
from tests.compare.simulated import MIXES, predictions_of_study, table_of_differences, told

pytestmark = pytest.mark.exhaustive

STUDIES = 400
LOOKS = looks_until(6, 30)

SHAPES = {
    "normal": lambda generator: generator.normal(size=30),
    "long tails": lambda generator: generator.standard_t(2, size=30),
    "few images": lambda generator: np.round(generator.normal(size=30)) / 360,
    "two groups": lambda generator: generator.choice([-1.0, 1.0], 30) * generator.choice([0.1, 3.0], 30),
}
"""Of differences that are as likely positive as negative."""


def test_looking_at_6_9_12_to_30_seeds_is_wrong_in_at_most_5_percent() -> None:
    total = 0
    for shape, draw in SHAPES.items():
        generator = np.random.default_rng(1)
        first, ever = 0, 0
        for _ in range(STUDIES):
            decisions = SignFlips(draw(generator), LOOKS).decisions(0, 0.05)
            first += decisions[0]
            ever += any(decisions)
        told(f"{shape}: shown at the first look {first}, at any look {ever} of {STUDIES}")
        # At a true rate of 5 % more happen once in 1,000 simulations.
        assert ever <= scipy.stats.binom.ppf(0.999, STUDIES, 0.05)
        total += ever
    assert total <= 0.05 * STUDIES * len(SHAPES)


def test_intervals_over_seeds_cover_the_mean_at_every_look() -> None:
    generator, missed = np.random.default_rng(2), 0
    covered = dict.fromkeys((6, 8, 12, 20), 0)
    for _ in range(STUDIES):
        differences = generator.normal(0.3, 1, 20)
        for seeds in covered:
            low, high = SignFlips(differences[:seeds], (seeds,)).interval(0.05)
            covered[seeds] += low <= 0.3 <= high
        missed += any(
            SignFlips(differences[:seeds], looks_until(6, seeds)).rejects(0.3, 0.05)
            for seeds in (6, 9, 12, 15)
        )
    told(f"covered, of {STUDIES}: {covered}; missed at any of four looks {missed}")
    assert min(covered.values()) >= 0.95 * STUDIES
    assert missed <= 0.05 * STUDIES


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seeds", [6, 10, 20])
@pytest.mark.parametrize("images", [200, 1_000, 5_000])
def test_intervals_over_seeds_and_images_cover_the_difference(seeds: int, images: int, mix: str) -> None:
    generator = np.random.default_rng(seeds * images)
    covered = 0
    for _ in range(STUDIES):
        table = table_of_differences(generator, MIXES[mix], seeds, images, (0.9, 0.93))
        low, high = variance_components(table).estimate(table.mean(), seeds, images).interval(0.05)
        covered += low <= 0.03 <= high
    told(f"{mix}, {seeds} seeds, {images} images: covered {covered} of {STUDIES}")
    assert covered >= 0.93 * STUDIES


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "area_under_roc", "cross_entropy"])
@pytest.mark.parametrize(("seeds", "images"), [(6, 200), (6, 1_000), (12, 400)])
def test_intervals_of_other_metrics_cover_the_difference(metric: Metric, seeds: int, images: int) -> None:
    generator = np.random.default_rng(3)
    gap = 0.3
    base, other = _tables(metric, predictions_of_study(generator, 60, 20_000, gap, even=True), 60)
    truth = float((other - base).mean())
    covered = 0
    for _ in range(STUDIES):
        base, other = _tables(metric, predictions_of_study(generator, seeds, images, gap), seeds)
        table = other - base
        low, high = variance_components(table).estimate(table.mean(), seeds, images).interval(0.05)
        covered += low <= truth <= high
    told(f"{metric}, {seeds} seeds, {images} images: covered {covered} of {STUDIES}")
    assert covered >= 0.93 * STUDIES


def _tables(metric: Metric, every: dict, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    base, other = (
        np.stack([per_image(metric, every[arm, seed]) for seed in range(seeds)]) for arm in ("a", "b")
    )
    return base, other


@pytest.mark.parametrize("seeds", [6, 20])
def test_intervals_of_seeds_with_splits_of_their_own_cover_the_difference(seeds: int) -> None:
    """Every seed measures a fifth of the same 500 images, on which the arms differ by chance."""
    generator, mix = np.random.default_rng(4), MIXES["images"]
    covered, naive = 0, 0
    for _ in range(STUDIES):
        pool = table_of_differences(generator, mix, seeds, 500, (0.9, 0.93))
        split = np.stack([generator.permutation(500)[:100] for _ in range(seeds)])
        differences = np.take_along_axis(pool, split, axis=1).mean(axis=1)
        low, high = resampled(differences, test_share=100 / 400).interval(0.05)
        covered += low <= 0.03 <= high
        low, high = resampled(differences, test_share=0).interval(0.05)
        naive += low <= 0.03 <= high
    told(f"own splits, {seeds} seeds: covered {covered} of {STUDIES}, uncorrected {naive}")
    assert covered >= 0.93 * STUDIES
    assert naive < covered


@pytest.mark.parametrize("mix", MIXES)
def test_equal_arms_are_shown_in_at_most_5_percent(mix: str) -> None:
    """On images of the kind, which are drawn as seeds are, looking once and nine times."""
    generator = np.random.default_rng(5)
    here, elsewhere = 0, 0
    for _ in range(STUDIES):
        table = table_of_differences(generator, MIXES[mix], 30, 361, (0.92, 0.92))
        differences = table.mean(axis=1)
        shown = []
        for look, seeds in enumerate(LOOKS, start=1):
            part = table[:seeds]
            flips = SignFlips(differences[:seeds], LOOKS[:look])
            estimate = variance_components(part).estimate(part.mean(), seeds, 361)
            shown.append(flips.rejects(0, 0.05) and estimate.p_value < flips.level_left(0.05))
        here += shown[0]
        elsewhere += any(shown)
    told(f"{mix}: on other images shown at six seeds {here}, at any of nine looks {elsewhere} of {STUDIES}")
    assert here <= 0.05 * STUDIES
    assert elsewhere <= 0.05 * STUDIES


@pytest.mark.parametrize("effect", [1.5, 1.2, 1.0, 0.8])
def test_a_difference_is_found_with_the_power_that_is_promised(effect: float) -> None:
    """A study of six that found exactly this size is told a number of seeds; 400 are made with so many."""
    generator = np.random.default_rng(6)
    seen = np.array([-1.2, -0.7, -0.2, 0.2, 0.7, 1.2])
    seeds = seeds_to_show(seen / seen.std(ddof=1) + effect, (6,), 0.05)
    assert seeds is not None
    looks = looks_until(6, seeds)
    found = sum(SignFlips(generator.normal(effect, 1, seeds), looks).rejects(0, 0.05) for _ in range(STUDIES))
    told(f"effect {effect}: {seeds} seeds promised, found in {found} of {STUDIES}")
    assert found >= (POWER - 0.03) * STUDIES
    assert found <= 0.97 * STUDIES, "fewer seeds would do"


@pytest.mark.parametrize("mix", ["both", "images"])
def test_images_show_a_difference_with_the_power_that_is_promised(mix: str) -> None:
    generator = np.random.default_rng(7)
    seeds, difference = 12, 0.02
    pilot = [
        variance_components(table_of_differences(generator, MIXES[mix], seeds, 2_000, (0.9, 0.92)))
        for _ in range(20)
    ]
    typical = type(pilot[0])(*np.mean(pilot, axis=0))
    images = images_to_show(difference, typical, seeds, 100, 0.05)
    assert images is not None
    found, studies = 0, 5 * STUDIES
    for _ in range(studies):
        table = table_of_differences(generator, MIXES[mix], seeds, images, (0.9, 0.92))
        found += variance_components(table).estimate(table.mean(), seeds, images).p_value < 0.05
    told(f"{mix}: {images} images promised, found in {found} of {studies}")
    assert found >= scipy.stats.binom.ppf(0.01, studies, POWER)
    assert found <= 0.9 * studies, "fewer images would do"


# --- equal arms, tuned ----------------------------------------------------------------------------

TRIALS, TUNED_SEEDS = 20, (1, 3, 6)


def _tuned_studies(generator: np.random.Generator, own_noise: float, tuning_seeds: int) -> NDArray[np.bool_]:
    """Whether each of many studies of two equal arms shows a difference at six seeds.

    Both arms search the same settings, as they do in a study, and their accuracy falls with the squared
    distance from the best one by up to five points. A trial differs from its setting's accuracy by one point.

    Args:
        own_noise: share of that variance, of a tuning trial, which the arms do not have in common. What
            trains on the same seed from the same start has none of its own, if the arms are the same.
    """
    places = np.array(
        [list(one.values()) for one in settings_of(load_experiment("digits").arms[1], _tuning())]
    )
    places = np.log10(places)
    spans = np.ptp(places, axis=0)
    best = places.min(axis=0) + spans * generator.uniform(0.2, 0.8, (STUDIES, 1, 2))
    accuracy = 0.97 - 0.05 * (((places - best) / spans) ** 2).sum(axis=2)
    shape = (STUDIES, TRIALS, tuning_seeds)
    common = generator.normal(0, 0.01 * np.sqrt(1 - own_noise), shape)
    chosen = []
    for _ in range(2):
        own = generator.normal(0, 0.01 * np.sqrt(own_noise), shape)
        found = np.median(accuracy[:, :, None] + common + own, axis=2).argmax(axis=1)
        chosen.append(accuracy[np.arange(STUDIES), found])
    differences = (chosen[1] - chosen[0])[:, None] + generator.normal(0, 0.01, (STUDIES, 6))
    return np.array([SignFlips(one, (6,)).rejects(0, 0.05) for one in differences])


def _tuning() -> Tuning:
    return Tuning(trials=TRIALS, seeds=(100,))


def test_equal_arms_that_are_tuned_alike_are_shown_in_at_most_5_percent() -> None:
    """Equal arms train alike on a tuning seed, so they get the same setting; their study has noise."""
    generator = np.random.default_rng(8)
    shown = {seeds: int(_tuned_studies(generator, 0, seeds).sum()) for seeds in TUNED_SEEDS}
    told(f"equal arms, tuned with {TRIALS} settings, by tuning seeds: shown {shown} of {STUDIES} each")
    assert max(shown.values()) <= scipy.stats.binom.ppf(0.999, STUDIES, 0.05)
    assert sum(shown.values()) <= 0.05 * STUDIES * len(shown)


def test_luck_in_the_search_is_no_part_of_the_verdict_and_more_tuning_seeds_lower_it() -> None:
    """Where equally good arms have noise of their own while they are tuned, their settings do differ."""
    shown = {seeds: int(_tuned_studies(np.random.default_rng(9), 1, seeds).sum()) for seeds in TUNED_SEEDS}
    told(f"equally good arms whose tuning has noise of its own, by tuning seeds: shown {shown} of {STUDIES}")
    assert shown[1] > shown[6], "what the guide says of more seeds"
    assert max(shown.values()) <= 0.2 * STUDIES, "what the guide says at most"

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.compare.inference import (
    EXACT_SEEDS,
    FLIPS,
    RESAMPLES,
    bca_interval,
    holm,
    sign_flip_p_value,
    smallest_p_value,
)
from optduel.components.settings import seeds_needed

DIFFERENCES = st.lists(
    st.one_of(
        st.integers(-3, 3).map(lambda images: images / 360),  # ties and zeros, as accuracies have
        st.integers(-(10**6), 10**6).map(lambda millionths: millionths / 10**6),
    ),
    min_size=2,
    max_size=9,
).map(np.array)


def brute_force_p(differences: np.ndarray) -> float:
    observed = abs(math.fsum(differences))
    patterns = list(itertools.product([1, -1], repeat=len(differences)))
    sums = [
        abs(math.fsum(sign * d for sign, d in zip(signs, differences, strict=True))) for signs in patterns
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(patterns)


def efron_bca(differences: np.ndarray, confidence: float) -> tuple[float, float]:
    """Efron 1987: bias correction from the resampled means, acceleration from the jackknife."""
    generator = np.random.default_rng(0)
    n = len(differences)
    means = differences[generator.integers(0, n, (RESAMPLES, n))].mean(axis=1)
    mean = differences.mean()
    share_below = (np.sum(means < mean) + np.sum(means <= mean)) / (2 * RESAMPLES)
    z0 = scipy.stats.norm.ppf(share_below)
    without = np.array([np.delete(differences, i).mean() for i in range(n)])
    deviations = without.mean() - without
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    bounds = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = z0 + scipy.stats.norm.ppf(tail)
        level = scipy.stats.norm.cdf(z0 + z / (1 - acceleration * z))
        bounds.append(float(np.quantile(means, level)))
    return bounds[0], bounds[1]


def test_sign_flip_worked_by_hand() -> None:
    # 3 + 1 = 4: of the sums 4, 2, -2, -4 two are as far from 0.
    assert sign_flip_p_value(np.array([3.0, 1.0])) == 2 / 4
    # 0.1 + 0.2 - 0.3: an exact zero that floating point misses; every pattern is as far from 0.
    assert sign_flip_p_value(np.array([0.1, 0.2, -0.3])) == 1


@settings(max_examples=60)
@given(differences=DIFFERENCES)
def test_sign_flip_equals_enumeration(differences: np.ndarray) -> None:
    assert sign_flip_p_value(differences) == pytest.approx(brute_force_p(differences), abs=1e-12)


@settings(max_examples=200)
@given(
    images=st.integers(100, 10**6),
    errors=st.lists(st.tuples(st.floats(0, 0.2), st.integers(-8, 8)), min_size=2, max_size=10),
)
def test_sign_flip_of_accuracies_is_that_of_counted_images(
    images: int, errors: list[tuple[float, int]]
) -> None:
    # Differences of quotients near 1 round, those of counts do not: what ties there must tie here.
    counts = [(images - 10 - int(share * (images - 20)), more) for share, more in errors]
    accuracies = np.array([[right / images, (right + more) / images] for right, more in counts])
    differences = accuracies[:, 1] - accuracies[:, 0]
    sums = [abs(sum(signed)) for signed in itertools.product(*[(more, -more) for _, more in counts])]
    expected = sum(total >= sums[0] for total in sums) / len(sums)
    assert sign_flip_p_value(differences) == expected


def test_drawn_patterns_tie_as_exact_ones_do() -> None:
    # 21 seeds, one image more or less: |sum| is odd, and a sum of 1 is the least there is, so p is 1.
    right = np.arange(700, 721)
    gains = np.where(np.arange(21) % 2, -1, 1)
    assert sign_flip_p_value((right + gains) / 734 - right / 734) == 1


def test_interval_that_ends_at_no_difference_does_not_exclude_it() -> None:
    right = np.array([669, 699, 665, 718, 687, 710])
    differences = (right + np.array([0, 0, 0, 0, 0, 1])) / 734 - right / 734
    low, _ = bca_interval(differences, 0.95)
    assert low == 0


@settings(max_examples=20)
@given(differences=DIFFERENCES)
def test_sign_flip_equals_scipy(differences: np.ndarray) -> None:
    expected = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=2**10, vectorized=True
    )
    assert sign_flip_p_value(differences) == pytest.approx(expected.pvalue, abs=1e-12)


def test_sign_flip_by_drawn_patterns_joins_the_exact_one() -> None:
    differences = np.random.default_rng(4).normal(0.4, 1, EXACT_SEEDS + 1)
    drawn = sign_flip_p_value(differences)
    sums = np.zeros(1)
    for difference in differences:
        sums = np.add.outer(sums, [difference, -difference]).ravel()
    exact = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact / FLIPS))
    assert sign_flip_p_value(differences) == drawn
    assert sign_flip_p_value(np.ones(30)) == smallest_p_value(30, 1) == 1 / (FLIPS + 1)


def test_bca_equals_an_independent_implementation() -> None:
    for seed, size in [(0, 6), (1, 6), (2, 12), (3, 40)]:
        # Skewed, so that both corrections count.
        differences = np.random.default_rng(seed).gamma(2, 1, size) - 1
        differences /= np.abs(differences).max()  # no rescaling, hence the same ties with the mean
        low, high = bca_interval(differences, 0.95)
        assert (low, high) == pytest.approx(efron_bca(differences, 0.95), rel=1e-9)
        percentile = scipy.stats.bootstrap(
            (differences,), np.mean, method="percentile", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
        ).confidence_interval
        assert abs(low - percentile.low) > 5e-3 * (high - low)  # or the comparison above says nothing


def test_bca_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        low, high = bca_interval(generator.normal(0.3, 1, 30), 0.9)
        hits += low <= 0.3 <= high
    # Binomial(200, 0.9) is outside once in 10,000 times; a bootstrap of 30 misses by some percent more.
    assert 162 <= hits <= 197


def test_degenerate_differences_have_defined_answers() -> None:
    assert bca_interval(np.array([0.1]), 0.95) is None
    assert sign_flip_p_value(np.array([0.1])) is None
    assert bca_interval(np.zeros(6), 0.95) == (0, 0)
    assert sign_flip_p_value(np.zeros(6)) == 1
    assert bca_interval(np.full(6, 0.25), 0.95) == (0.25, 0.25)
    assert sign_flip_p_value(np.full(6, 0.25)) == 2 / 2**6
    # Equal but for rounding, and so small that third powers underflow.
    low, high = bca_interval(np.array([0.1 + 0.2, 0.3, 0.3]), 0.95)
    assert low == pytest.approx(0.3)
    assert high == pytest.approx(0.3)
    tiny = bca_interval(np.array([1e-200, 2e-200, 4e-200]), 0.95)
    assert tiny == pytest.approx(tuple(1e-200 * b for b in bca_interval(np.array([1.0, 2.0, 4.0]), 0.95)))


@settings(max_examples=50)
@given(differences=DIFFERENCES, confidence=st.sampled_from([0.6, 0.9, 0.95, 0.99]))
def test_interval_is_finite_holds_the_mean_and_mirrors(differences: np.ndarray, confidence: float) -> None:
    low, high = bca_interval(differences, confidence)
    slack = 1e-9 * np.abs(differences).max()
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low - slack <= differences.mean() <= high + slack
    assert differences.min() - slack <= low <= high <= differences.max() + slack
    mirrored = bca_interval(-differences, confidence)
    assert mirrored == pytest.approx((-high, -low), abs=max(slack, 1e-300))
    assert bca_interval(differences, confidence) == (low, high)


@settings(max_examples=50)
@given(differences=DIFFERENCES)
def test_p_value_is_a_probability_and_mirrors(differences: np.ndarray) -> None:
    p_value = sign_flip_p_value(differences)
    assert smallest_p_value(len(differences), comparisons=1) <= p_value <= 1
    assert sign_flip_p_value(-differences) == p_value


def test_holm_worked_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1 gives 0.03, 0.04, 0.04; input order is kept.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.03]) == [0.03]


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= min(len(p_values) * raw, 1) + 1e-15
    for (a, a_adjusted), (b, b_adjusted) in itertools.combinations(zip(p_values, adjusted, strict=True), 2):
        assert (a <= b) <= (a_adjusted <= b_adjusted)


@pytest.mark.parametrize(
    ("confidence", "comparisons", "seeds"),
    [(0.95, 1, 6), (0.95, 2, 7), (0.95, 11, 9), (0.99, 1, 8), (0.9, 1, 5)],
)
def test_seeds_needed_is_the_smallest_that_can_show(confidence: float, comparisons: int, seeds: int) -> None:
    assert seeds_needed(confidence, comparisons) == seeds
    assert smallest_p_value(seeds, comparisons) < 1 - confidence <= smallest_p_value(seeds - 1, comparisons)
    assert smallest_p_value(seeds, 1) == sign_flip_p_value(np.ones(seeds))

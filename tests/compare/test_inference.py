"""The sign-flip test at one look and at several, against enumeration; the interval that is its inversion."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.compare.inference import EXACT_SEEDS, SignFlips, holm, smallest_p_value
from optduel.components.settings import FIRST_SHARE, looks_until, seeds_needed, share_spent

DIFFERENCES = st.lists(
    st.one_of(
        st.integers(-3, 3).map(lambda images: images / 360),  # ties and zeros, as accuracies have
        st.integers(-(10**6), 10**6).map(lambda millionths: millionths / 10**6),
    ),
    min_size=2,
    max_size=9,
).map(np.array)

LEVELS = st.sampled_from([0.05, 0.1, 0.2, 0.4])


def p_of(differences: np.ndarray, level: float = 0.05) -> float:
    return SignFlips(differences, (len(differences),)).p_value(level)


def interval_of(differences: np.ndarray, level: float = 0.05) -> tuple[float, float] | None:
    return SignFlips(differences, (len(differences),)).interval(level)


def brute_force_p(differences: np.ndarray) -> float:
    observed = abs(math.fsum(differences))
    patterns = list(itertools.product([1, -1], repeat=len(differences)))
    sums = [
        abs(math.fsum(sign * d for sign, d in zip(signs, differences, strict=True))) for signs in patterns
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(patterns)


def test_sign_flip_worked_by_hand() -> None:
    # 3 + 1 = 4: of the sums 4, 2, -2, -4 two are as far from 0.
    assert p_of(np.array([3.0, 1.0])) == 2 / 4 / FIRST_SHARE
    # 0.1 + 0.2 - 0.3: an exact zero that floating point misses; every pattern is as far from 0.
    assert p_of(np.array([0.1, 0.2, -0.3])) == 1


@settings(max_examples=60)
@given(differences=DIFFERENCES)
def test_sign_flip_equals_enumeration(differences: np.ndarray) -> None:
    expected = min(brute_force_p(differences) / FIRST_SHARE, 1)
    assert p_of(differences) == pytest.approx(expected, abs=1e-12)


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
    assert p_of(differences) == min(expected / FIRST_SHARE, 1)


def test_drawn_patterns_tie_as_exact_ones_do() -> None:
    # 21 seeds, one image more or less: |sum| is odd, and a sum of 1 is the least there is, so p is 1.
    right = np.arange(700, 721)
    gains = np.where(np.arange(21) % 2, -1, 1)
    assert p_of((right + gains) / 734 - right / 734) == 1


@settings(max_examples=20)
@given(differences=DIFFERENCES)
def test_sign_flip_equals_scipy(differences: np.ndarray) -> None:
    expected = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=2**10, vectorized=True
    )
    assert p_of(differences) == pytest.approx(min(expected.pvalue / FIRST_SHARE, 1), abs=1e-12)


def test_sign_flip_by_drawn_patterns_joins_the_exact_one() -> None:
    differences = np.random.default_rng(4).normal(0.4, 1, EXACT_SEEDS + 2)
    drawn = p_of(differences) * FIRST_SHARE
    sums = np.zeros(1)
    for difference in differences:
        sums = np.add.outer(sums, [difference, -difference]).ravel()
    exact = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact / 2**16))
    assert p_of(np.ones(30)) == smallest_p_value((30,), 1) == 1 / 2**16 / FIRST_SHARE


def bounds_by_means(differences: np.ndarray, level: float) -> tuple[float, float] | None:
    """The same interval in another way.

    A pattern flips a set of differences; their sum, less `mean` each, is then as far from zero as observed if
    and only if `mean` lies between the means of the two sets. So p at `mean` counts such pairs.
    """
    count = len(differences)
    pairs = []
    for flipped in itertools.product([False, True], repeat=count - 1):
        chosen = np.array([False, *flipped])
        if chosen.any():
            pairs.append(sorted([differences[chosen].mean(), differences[~chosen].mean()]))
    rank = math.floor(level * FIRST_SHARE * 2 ** (count - 1) + 1e-6)
    if rank < 1:
        return None
    return sorted(low for low, _ in pairs)[rank - 1], sorted(high for _, high in pairs)[-rank]


@settings(max_examples=60)
@given(differences=DIFFERENCES, level=LEVELS)
def test_the_interval_is_the_one_between_means_of_parts(differences: np.ndarray, level: float) -> None:
    expected, found = bounds_by_means(differences, level), interval_of(differences, level)
    if expected is None:
        assert found is None
        return
    assert found == pytest.approx(expected, abs=1e-7 * np.abs(differences).max())


def test_the_interval_of_six_seeds_is_the_range_of_their_differences() -> None:
    differences = np.array([0.004, 0.010, 0.013, 0.006, 0.009, -0.006])
    assert interval_of(differences) == pytest.approx((-0.006, 0.013))
    assert interval_of(differences[:5]) is None, "five can reject nothing"


@settings(max_examples=60)
@given(differences=DIFFERENCES, level=LEVELS, first=st.integers(2, 9))
def test_interval_and_p_never_contradict_each_other(
    differences: np.ndarray, level: float, first: int
) -> None:
    looks = looks_until(min(first, len(differences)), len(differences))
    flips = SignFlips(differences[: looks[-1]], looks)
    interval, p_value = flips.interval(level), flips.p_value(level)
    is_excluded = interval is not None and not interval[0] <= 0 <= interval[1]
    assert is_excluded == (p_value <= level) == flips.rejects(0, level)
    assert smallest_p_value(looks, 1) * 0.999 <= p_value or len(looks) > 1
    if interval is not None:
        mean, slack = differences[: looks[-1]].mean(), 1e-7 * np.abs(differences).max()
        assert interval[0] - slack <= mean <= interval[1] + slack
        mirrored = SignFlips(-differences[: looks[-1]], looks)
        assert mirrored.interval(level) == pytest.approx((-interval[1], -interval[0]), abs=slack)
        assert mirrored.p_value(level) == pytest.approx(p_value, abs=1e-5)


def test_interval_that_ends_at_no_difference_does_not_exclude_it() -> None:
    right = np.array([669, 699, 665, 718, 687, 710])
    differences = (right + np.array([0, 0, 0, 0, 0, 1])) / 734 - right / 734
    low, _ = interval_of(differences)
    assert low == 0


@settings(max_examples=8)
@given(
    sizes=st.lists(st.sampled_from([1.0, 2.0, 2.5]) | st.floats(0.1, 3), min_size=9, max_size=9),
    level=LEVELS,
)
def test_of_all_sign_patterns_no_more_than_allowed_are_ever_shown(sizes: list[float], level: float) -> None:
    """That is the whole promise, and it holds exactly: one pattern is as likely as another."""
    looks, shown = (3, 6, 9), np.zeros(3)
    patterns = [np.array([1, *signs]) * sizes for signs in itertools.product([1, -1], repeat=8)]
    for differences in patterns:
        decisions = SignFlips(differences, looks).decisions(0, level)
        # A look does not know what comes after it.
        assert decisions[0] == SignFlips(differences[:3], (3,)).rejects(0, level)
        shown += np.maximum.accumulate(decisions)
    for look, ever in enumerate(shown, start=1):
        assert ever / len(patterns) <= level * share_spent(look) + 1e-9
    if level == 0.4:
        assert shown[-1] / len(patterns) > level / 4, "it is not simply never shown"


def test_a_look_more_costs_a_larger_p_and_no_look_changes_an_earlier_one() -> None:
    differences = np.random.default_rng(0).normal(0.9, 1, 12)
    once = SignFlips(differences, (12,)).p_value(0.05)
    after_two = SignFlips(differences, (6, 9, 12)).p_value(0.05)
    assert once < after_two < 10 * once
    assert SignFlips(differences, (6, 9, 12)).decisions(0, 0.5)[:2] == SignFlips(
        differences[:9], (6, 9)
    ).decisions(0, 0.5)


def test_degenerate_differences_have_defined_answers() -> None:
    assert interval_of(np.zeros(6)) == (0, 0)
    assert p_of(np.zeros(6)) == 1
    assert interval_of(np.full(6, 0.25)) == (0.25, 0.25)
    assert p_of(np.full(6, 0.25)) == 2 / 2**6 / FIRST_SHARE
    assert interval_of(np.full(5, 0.25)) is None
    low, high = interval_of(np.array([0.1 + 0.2, *[0.3] * 5]))  # equal but for rounding
    assert (low, high) == pytest.approx((0.3, 0.3))
    tiny = 1e-200 * np.arange(1, 7)
    assert interval_of(tiny) == pytest.approx((1e-200, 6e-200), abs=0, rel=1e-6)


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
    [(0.95, 1, 6), (0.95, 2, 7), (0.95, 11, 10), (0.99, 1, 9), (0.9, 1, 5)],
)
def test_seeds_needed_is_the_smallest_that_can_show(confidence: float, comparisons: int, seeds: int) -> None:
    assert seeds_needed(confidence, comparisons) == seeds
    assert smallest_p_value((seeds,), comparisons) < 1 - confidence
    assert 1 - confidence <= smallest_p_value((seeds - 1,), comparisons)
    assert smallest_p_value((seeds,), 1) == p_of(np.ones(seeds))

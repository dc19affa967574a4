"""Paired differences against other implementations, and against what they promise."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.gate.paired import (
    DIFFERENCES,
    Outcomes,
    accuracy_difference,
    f1_difference,
    loss_difference,
    macro_f1,
    mcnemar_p_value,
    recall_changes,
)

CLASSES = 3


def outcomes_of(
    count: int, candidate_skill: float, champion_skill: float, generator: np.random.Generator
) -> Outcomes:
    """Two models that are right on images at random, independently of one another."""
    labels = generator.integers(CLASSES, size=count)

    def predicted(skill: float) -> np.ndarray:
        wrong = (labels + generator.integers(1, CLASSES, size=count)) % CLASSES
        return np.where(generator.random(count) < skill, labels, wrong)

    candidate, champion = predicted(candidate_skill), predicted(champion_skill)
    losses = [generator.exponential(1 - skill + 0.05, count) for skill in (candidate_skill, champion_skill)]
    return Outcomes(labels, candidate, champion, *losses, CLASSES)


@given(won=st.integers(0, 300), lost=st.integers(0, 300))
def test_mcnemar_is_the_sum_of_binomial_probabilities(won: int, lost: int) -> None:
    count, few = won + lost, min(won, lost)
    tail = scipy.stats.binom.cdf(few, count, 0.5)
    assert mcnemar_p_value(won, lost) == pytest.approx(min(1, 2 * tail), rel=1e-9)


@pytest.mark.parametrize(("won", "lost", "images"), [(1, 12, 44), (9, 4, 60), (0, 5, 30), (40, 40, 1000)])
def test_bounds_of_the_score_interval_are_where_the_likelihood_says(won: int, lost: int, images: int) -> None:
    """At a bound, with the likeliest probabilities of that difference, the score is the critical value."""
    found = accuracy_difference(won, lost, images, 0.95)
    for bound in (found.low, found.high):

        def surprise(only_champion: float, bound: float = bound) -> float:
            only_candidate = only_champion + bound
            same = 1 - only_champion - only_candidate
            terms = [(won, only_candidate), (lost, only_champion), (images - won - lost, same)]
            return -sum(count * np.log(max(p, 1e-300)) for count, p in terms if count)

        likeliest = scipy.optimize.minimize_scalar(
            surprise, bounds=(max(0, -bound), (1 - bound) / 2), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = (2 * likeliest + bound - bound**2) / images
        assert abs(found.value - bound) / np.sqrt(variance) == pytest.approx(1.959964, rel=1e-3)


def test_the_score_interval_of_equal_answers_is_not_a_point() -> None:
    critical = scipy.stats.norm.ppf(0.975) ** 2
    found = accuracy_difference(0, 0, 10, 0.95)
    assert (found.low, found.high) == pytest.approx((-critical / (10 + critical), critical / (10 + critical)))


@given(won=st.integers(0, 50), lost=st.integers(0, 50), same=st.integers(0, 200))
def test_the_score_interval_is_symmetric_and_holds_the_difference(won: int, lost: int, same: int) -> None:
    images = max(1, won + lost + same)
    found = accuracy_difference(won, lost, images, 0.95)
    mirrored = accuracy_difference(lost, won, images, 0.95)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    wider = accuracy_difference(won, lost, images, 0.99)
    assert wider.low <= found.low
    assert wider.high >= found.high


def test_macro_f1_is_scikit_learns_over_the_classes_with_images() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(4, size=500)
    predicted = generator.integers(-1, 5, size=500)
    present = [0, 1, 2, 3]
    expected = sklearn.metrics.f1_score(labels, predicted, labels=present, average="macro")
    assert macro_f1(labels, predicted, 5) == pytest.approx(expected)


def test_bootstraps_agree_with_scipys() -> None:
    outcomes = outcomes_of(400, 0.85, 0.8, np.random.default_rng(1))
    differences = outcomes.candidate_losses - outcomes.champion_losses
    theirs = scipy.stats.bootstrap(
        (differences,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    found = loss_difference(outcomes, 0.95)
    assert found.value == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    assert loss_difference(outcomes, 0.95) == found, "the same images give the same interval"

    def f1(chosen: np.ndarray) -> float:
        scores = [
            sklearn.metrics.f1_score(outcomes.labels[chosen], predicted[chosen], average="macro")
            for predicted in (outcomes.candidate, outcomes.champion)
        ]
        return float(scores[0] - scores[1])

    generator = np.random.default_rng(3)
    resampled = [f1(generator.integers(400, size=400)) for _ in range(500)]
    found = f1_difference(outcomes, 0.95)
    assert found.value == pytest.approx(f1(np.arange(400)))
    assert (found.low, found.high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.012)


def test_a_class_that_only_the_champion_knows_is_wrong() -> None:
    labels = np.array([0, 0, 1, 1])
    zeros = np.zeros(4)
    outcomes = Outcomes(labels, labels, np.array([0, -1, 1, -1]), zeros, zeros, 2)
    assert recall_changes(outcomes) == {0: (2, 1, 0), 1: (2, 1, 0)}
    assert DIFFERENCES["accuracy"](outcomes, 0.95).value == 0.5
    assert f1_difference(outcomes, 0.95).value == pytest.approx(1 - 2 / 3)

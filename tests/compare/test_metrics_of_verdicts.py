"""Verdicts by other metrics than accuracy, and whether a difference holds on other images."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.compare.compare import compare_arms
from optduel.components.compare.crossed import Variances, per_image, resampled, variance_components
from optduel.components.compare.inference import SignFlips
from optduel.components.core import DataError
from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.results import Evaluation, Predictions, Trial, Trials
from optduel.components.settings import FIRST_SHARE, Metric, Study
from tests.compare.conftest import foretold

METRICS: tuple[Metric, ...] = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "area_under_roc",
    "cross_entropy",
)

CLASSES = ("a", "b", "c", "absent")


def predictions(seed: int, count: int, arm: str = "a", skill: float = 1.0) -> Predictions:
    """Three unbalanced classes of four, some ties among the scores."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, count, p=[0.6, 0.3, 0.1])
    logits = np.round(generator.normal(size=(count, 4)) + skill * (labels[:, None] == range(4)), 1)
    weights = np.exp(logits)
    return Predictions(
        arm=arm,
        seed=seed,
        split="test",
        model_sha256=f"{arm}-{seed}",
        classes=CLASSES,
        examples=tuple(str(number) for number in range(count)),
        labels=labels,
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )


def evaluated(given_: Predictions) -> Evaluation:
    scores = evaluate_probabilities(given_.probabilities, given_.labels, given_.classes, 0.95)
    return scores.as_evaluation(given_.arm, given_.seed, "test", given_.model_sha256)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 60), metric=st.sampled_from(METRICS))
def test_what_images_add_has_the_metric_as_its_mean(seed: int, count: int, metric: Metric) -> None:
    one = predictions(seed, count)
    value = evaluated(one).value(metric)
    if value is None:
        return
    assert per_image(metric, one).mean() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_an_image_less_changes_the_metric_as_it_says(metric: Metric) -> None:
    """The jackknife, which leaves out one image at a time, says the same of large splits."""
    count = 3_000
    one = predictions(1, count)
    values = per_image(metric, one)
    for image in range(20):
        kept = np.arange(count) != image
        without = dataclasses.replace(
            one,
            labels=one.labels[kept],
            probabilities=one.probabilities[kept],
            examples=one.examples[1:],
        )
        pseudo = count * values.mean() - (count - 1) * evaluated(without).value(metric)
        assert pseudo == pytest.approx(values[image], abs=0.06), image


def test_variance_components_worked_by_hand() -> None:
    # Rows 1 and 3 on average, columns 1, 2, 3; nothing is left.
    additive = np.array([[0.0, 1, 2], [2.0, 3, 4]])
    seeds, images, rest = variance_components(additive)
    assert rest == pytest.approx(0, abs=1e-12)
    assert (seeds, images) == pytest.approx((2, 1))
    # What is left is taken off the others, but never below zero.
    assert variance_components(np.array([[1.0, -1], [-1, 1]])) == pytest.approx((0, 0, 4))


def test_the_estimate_for_other_images_worked_by_hand() -> None:
    estimate = Variances(seeds=2, images=3, rest=6).estimate(0.5, seeds=4, images=10)
    by_seed, by_image = 6 + 10 * 2, 6 + 4 * 3
    variance = (by_seed + by_image - 6) / 40
    assert estimate.standard_error**2 == pytest.approx(2 / 4 + 3 / 10 + 6 / 40)
    assert estimate.standard_error**2 == pytest.approx(variance)
    parts = (by_seed / 40) ** 2 / 3 + (by_image / 40) ** 2 / 9 + (6 / 40) ** 2 / 27
    assert estimate.degrees == pytest.approx(variance**2 / parts)
    low, high = estimate.interval(0.05)
    assert (low + high) / 2 == pytest.approx(0.5)
    # The bound that p calls just not excluded.
    edge = estimate._replace(mean=(high - low) / 2)
    assert edge.p_value == pytest.approx(0.05)


def test_seeds_with_splits_of_their_own_are_corrected_for_overlap() -> None:
    differences = np.array([1.0, 2.0, 3.0, 6.0])
    estimate = resampled(differences, test_share=0.25)
    assert estimate.standard_error**2 == pytest.approx(differences.var(ddof=1) * (1 / 4 + 0.25))
    assert (estimate.mean, estimate.degrees) == (3, 3)


def predicted(gap: float, seeds: int = 6, images: int = 400) -> dict[tuple[str, int], Predictions]:
    """Of two arms on the same images, the second one better by `gap` in its logits."""
    labels = np.random.default_rng(7).choice(3, images, p=[0.6, 0.3, 0.1])
    every = {}
    for arm, skill in (("a", 1.0), ("b", 1.0 + gap)):
        for seed in range(seeds):
            logits = np.random.default_rng(seed).normal(size=(images, 4)) + skill * (
                labels[:, None] == range(4)
            )
            weights = np.exp(logits)
            every[arm, seed] = dataclasses.replace(
                predictions(seed, images, arm),
                labels=labels,
                probabilities=weights / weights.sum(axis=1, keepdims=True),
            )
    return every


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_can_decide(metric: Metric, make_trial: Callable[..., Trial]) -> None:
    study, every = Study(seeds=tuple(range(6)), metric=metric), predicted(gap=0.8)
    trials = Trials(
        trials=tuple(
            make_trial(arm, seed).model_copy(update={"evaluation": evaluated(one)})
            for (arm, seed), one in every.items()
        )
    )
    result = compare_arms(study, ["a", "b"], trials, every)
    (pair,) = result.comparisons
    values = [
        evaluated(every["b", seed]).value(metric) - evaluated(every["a", seed]).value(metric)
        for seed in range(6)
    ]
    assert pair.differences == pytest.approx(values)
    assert (pair.answer, pair.better) == ("shown", "b")
    other = pair.other_images
    assert (other.answer, other.examples) == ("shown", 400)
    low, high = sorted([other.interval_low, other.interval_high])
    assert low < pair.mean_difference < high
    assert "; and on images of this kind (95 % interval " in pair.sentence
    assert result.arms[1].median_score == pytest.approx(np.median(result.arms[1].scores))
    unit = "nats" if metric == "cross_entropy" else "points"
    assert f" {unit} of test {metric.split('_')[0]}" in pair.sentence.replace("area under", "area")
    assert any("unbalanced" in caution for caution in result.cautions) == (metric == "accuracy")


def test_a_difference_of_these_images_alone_is_told_from_one_of_their_kind(
    make_trial: Callable[..., Trial],
) -> None:
    """Three images more of 200, the same with every seed: real here, and perhaps luck elsewhere."""
    trials, every = [], {}
    for arm, accuracy in (("a", 0.9), ("b", 0.915)):
        for seed in range(6):
            trial = make_trial(arm, seed, accuracy=accuracy + 0.0001 * seed * (arm == "b"))
            right = np.arange(200) < round(200 * accuracy)
            base = foretold(trial)
            probabilities = np.where((base.labels[:, None] == [0, 1]) == right[:, None], 0.9, 0.1)
            every[arm, seed] = dataclasses.replace(base, probabilities=probabilities)
            trials.append(trial)
    (pair,) = compare_arms(
        Study(seeds=tuple(range(6))), ["a", "b"], Trials(trials=tuple(trials)), every
    ).comparisons
    assert (pair.answer, pair.other_images.answer) == ("shown", "not shown")
    assert pair.other_images.seed_variance == 0
    assert pair.other_images.interval_low < 0 < pair.other_images.interval_high
    assert pair.needed.seeds == 6
    assert 200 < pair.needed.examples < 1_000
    assert (
        f"; not shown on images of this kind (95 % interval {100 * pair.other_images.interval_low:.1f} to "
        in pair.sentence
    )
    assert f"where {pair.needed.examples} images would show a difference of this size" in pair.sentence


def test_predictions_of_other_models_or_images_are_refused(make_trial: Callable[..., Trial]) -> None:
    trials = Trials(trials=tuple(make_trial(arm, seed) for arm in "ab" for seed in range(2)))
    every = {(one.training.arm, one.training.seed): foretold(one) for one in trials.trials}
    study = Study(seeds=(0, 1))
    other_model = every | {("b", 1): dataclasses.replace(every["b", 1], model_sha256="0" * 64)}
    with pytest.raises(DataError, match="trial b, seed 1: its predictions are of another model"):
        compare_arms(study, ["a", "b"], trials, other_model)
    images = every["b", 1].examples[::-1]
    other_images = every | {("b", 1): dataclasses.replace(every["b", 1], examples=images)}
    with pytest.raises(DataError, match="trial b, seed 1: its predictions are of other images"):
        compare_arms(study, ["a", "b"], trials, other_images)


def test_an_area_without_a_value_is_refused(make_trial: Callable[..., Trial]) -> None:
    trials = Trials(trials=tuple(make_trial(arm, seed) for arm in "ab" for seed in range(2)))
    every = {(one.training.arm, one.training.seed): foretold(one) for one in trials.trials}
    with pytest.raises(DataError, match=r"study.metric = area_under_roc: has no value where all images"):
        compare_arms(Study(seeds=(0, 1), metric="area_under_roc"), ["a", "b"], trials, every)


def test_looking_again_costs_the_answer_for_other_images_too(make_trial: Callable[..., Trial]) -> None:
    every = predicted(gap=0.3, seeds=9)
    trials = Trials(
        trials=tuple(
            make_trial(arm, seed).model_copy(update={"evaluation": evaluated(one)})
            for (arm, seed), one in every.items()
        )
    )
    once, again = (
        compare_arms(Study(seeds=tuple(range(9)), first_look=first), ["a", "b"], trials, every).comparisons[0]
        for first in (None, 6)
    )
    assert (once.looks, again.looks) == ((9,), (6, 9))
    for pair in (once, again):
        other = pair.other_images
        estimate = variance_components(
            np.stack([per_image("accuracy", every["b", seed]) for seed in range(9)])
            - np.stack([per_image("accuracy", every["a", seed]) for seed in range(9)])
        ).estimate(pair.mean_difference, 9, 400)
        level = SignFlips(np.array(pair.differences), pair.looks).level_left(0.05)
        assert level == 0.05 * FIRST_SHARE if len(pair.looks) == 1 else 0 < level < 0.02
        assert (other.interval_low, other.interval_high) == pytest.approx(estimate.interval(level))
        assert other.p_value == pytest.approx(min(estimate.p_value * 0.05 / level, 1))

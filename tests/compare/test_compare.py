import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optduel.components.compare.compare import collect
from optduel.components.core import DataError
from optduel.components.results import Comparison, Trial, Trials, read_document, write_document
from optduel.components.settings import FIRST_SHARE, Study
from tests.compare.conftest import compared

MakeTrial = Callable[..., Trial]
MakeTrials = Callable[..., Trials]

SIX = (0, 1, 2, 3, 4, 5)
ARMS = ["sgd-l2", "adamw"]
NOISE = np.array([0.010, -0.004, 0.006, -0.012, 0.001, 0.007])


def study(seeds: int = 6, metric: str = "accuracy", confidence: float = 0.95) -> Study:
    return Study(seeds=tuple(range(seeds)), metric=metric, confidence=confidence)


def test_clear_difference_is_shown_with_its_numbers(make_trials: MakeTrials) -> None:
    base = 0.90 + NOISE
    gains = np.array([0.004, 0.010, 0.013, 0.006, 0.009, 0.006])
    result = compared(study(), ARMS, make_trials({"sgd-l2": base, "adamw": base + gains}))

    (pair,) = result.comparisons
    assert pair.differences == pytest.approx(tuple(gains))
    assert pair.mean_difference == pytest.approx(0.008)
    assert pair.median_difference == pytest.approx(0.0075)
    assert pair.interval_low == pytest.approx(0.004)
    assert pair.interval_high == pytest.approx(0.013)
    assert pair.p_value == pair.smallest_p_value == 2 / 2**6 / FIRST_SHARE
    assert pair.probability_challenger_better == 1
    assert (pair.answer, pair.better) == ("shown", "adamw")
    assert pair.sentence.startswith(
        "adamw is better than sgd-l2 on these test images: +0.80 points of test accuracy (95 % interval 0.40 "
        "to 1.30, sign-flip p = 0.049, adamw better on 6 of 6 seeds); "
    )
    assert "Holm" not in pair.sentence, "one challenger needs no correction"
    assert result.cautions == ()
    assert [arm.arm for arm in result.arms] == ARMS
    assert result.arms[0].median_accuracy == pytest.approx(np.median(base))
    assert result.arms[0].accuracy == pytest.approx(tuple(base))


def test_lower_cross_entropy_is_better(make_trials: MakeTrials) -> None:
    base = 0.5 + NOISE
    trials = make_trials({"sgd-l2": base, "adamw": base + 0.1 + NOISE / 2}, metric="cross_entropy")
    (pair,) = compared(study(metric="cross_entropy"), ARMS, trials).comparisons
    assert pair.mean_difference == pytest.approx(0.1, abs=0.01)
    assert pair.probability_challenger_better == 0
    assert (pair.answer, pair.better) == ("shown", "sgd-l2")
    assert pair.sentence.startswith(
        "sgd-l2 is better than adamw on these test images: -0.10 nats of test cross-entropy (95 % "
        "interval -0.11"
    )
    assert "sgd-l2 better on 6 of 6 seeds" in pair.sentence

    # Seen from the baseline the interval turns round too.
    trials = make_trials(
        {"sgd-l2": base, "adamw": base + [0.1, 0.1, 0.1, 0.1, 0.1, 0.4]}, metric="cross_entropy"
    )
    (pair,) = compared(study(metric="cross_entropy"), ARMS, trials).comparisons
    low, high = pair.interval_low, pair.interval_high
    assert f"-0.15 nats of test cross-entropy (95 % interval {-high:.2f} to {-low:.2f}," in pair.sentence
    assert -high < -0.25 < -0.15 < -low


def test_ties_count_one_half(make_trials: MakeTrials) -> None:
    trials = make_trials({"sgd-l2": [0.5, 0.5, 0.5, 0.5], "adamw": [0.5, 0.6, 0.4, 0.6]})
    (pair,) = compared(study(4), ARMS, trials).comparisons
    assert pair.probability_challenger_better == (2 + 0.5) / 4
    assert "adamw better on 2 of 4 seeds" in pair.sentence


def test_identical_arms_have_no_difference(make_trials: MakeTrials) -> None:
    values = 0.9 + NOISE
    result = compared(study(), ["a", "b"], make_trials({"a": values, "b": values}))
    (pair,) = result.comparisons
    assert (pair.answer, pair.better) == ("no difference", None)
    assert (pair.interval_low, pair.interval_high, pair.p_value) == (0, 0, 1)
    assert pair.probability_challenger_better == 0.5
    assert pair.sentence == (
        "No difference: b and a have exactly the same test accuracy and cross-entropy on each of the 6 seeds."
    )


def test_arms_that_classify_alike_but_are_not_the_same_show_nothing(make_trials: MakeTrials) -> None:
    values = 0.9 + NOISE
    trials = make_trials({"a": values, "b": values})
    one, *others = trials.trials
    worse = one.evaluation.cross_entropy.model_copy(update={"value": 3.1})
    evaluation = one.evaluation.model_copy(update={"cross_entropy": worse})
    trials = Trials(trials=(one.model_copy(update={"evaluation": evaluation}), *others))
    (pair,) = compared(study(), ["a", "b"], trials).comparisons
    assert (pair.answer, pair.p_value, pair.interval_low, pair.interval_high) == ("not shown", 1, 0, 0)
    assert pair.sentence.startswith("Not shown: b minus a is 0.0 points of test accuracy (95 % interval 0.0")


def test_p_that_rounds_to_the_level_is_told_from_it(make_trials: MakeTrials) -> None:
    base = np.full(12, 0.9)
    gains = np.array([3, 21, 32, 26, 20, 2, 1, -8, 26, -6, 18, -7]) / 1000
    (pair,) = compared(study(12), ARMS, make_trials({"sgd-l2": base, "adamw": base + gains})).comparisons
    assert pair.p_value == 65 / 2**11 / FIRST_SHARE
    assert f"{pair.p_value:.2g}" == "0.05"
    assert "sign-flip p = 0.0496" in pair.sentence


def test_arms_that_differ_by_noise_only_are_rarely_called_different(make_trials: MakeTrials) -> None:
    generator = np.random.default_rng(2026)
    studies = 200
    shown = 0
    for _ in range(studies):
        shared = generator.normal(0.9, 0.01, 6)  # what a seed does to both arms
        trials = make_trials(
            {"a": shared + generator.normal(0, 0.01, 6), "b": shared + generator.normal(0, 0.01, 6)}
        )
        shown += compared(study(), ["a", "b"], trials).comparisons[0].answer == "shown"
    # At a true rate of 5 % more than this many happen once in 1,000 runs of this test.
    assert shown <= scipy.stats.binom.ppf(0.999, studies, 0.05)
    assert shown > 0  # the verdict is not simply never "shown"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_five_seeds_never_show_anything(make_trials: MakeTrials, values: list[tuple[float, float]]) -> None:
    first, second = zip(*values, strict=True)
    seeds = len(values)
    result = compared(study(seeds), ["a", "b"], make_trials({"a": first, "b": second}))
    (pair,) = result.comparisons
    assert pair.answer != "shown"
    assert pair.better is None
    if pair.answer == "not shown":
        assert "can never show a difference at 95 %" in pair.sentence
        assert "at least 6 are needed" in pair.sentence
    assert any("at least 6" in caution for caution in result.cautions)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8),
    metric=st.sampled_from(["accuracy", "cross_entropy"]),
)
def test_swapping_the_arms_mirrors_the_comparison(
    make_trials: MakeTrials, values: list[tuple[float, float]], metric: str
) -> None:
    first, second = zip(*values, strict=True)
    trials = make_trials({"a": first, "b": second}, metric=metric)
    (there,) = compared(study(len(values), metric), ["a", "b"], trials).comparisons
    (back,) = compared(study(len(values), metric), ["b", "a"], trials).comparisons
    assert back.answer == there.answer
    assert back.better == there.better
    assert back.p_value == there.p_value
    assert back.mean_difference == -there.mean_difference
    assert back.median_difference == -there.median_difference
    if there.interval_low is None:
        assert back.interval_high is None
    else:
        assert (back.interval_low, back.interval_high) == pytest.approx(
            (-there.interval_high, -there.interval_low), abs=1e-7
        )
    assert back.probability_challenger_better == pytest.approx(1 - there.probability_challenger_better)
    if there.better:
        assert back.sentence == there.sentence


def test_one_seed_has_a_difference_but_no_interval_and_no_p(make_trials: MakeTrials) -> None:
    trials = make_trials(
        {"sgd-l2": [0.60], "adamw": [0.65]}, split="validation", half_width=0.035, examples=734
    )
    result = compared(study(1), ARMS, trials)
    (pair,) = result.comparisons
    assert (pair.interval_low, pair.interval_high, pair.p_value, pair.smallest_p_value) == (None,) * 4
    assert pair.answer == "not shown"
    assert pair.sentence == (
        "Not shown: 1 seed can never show a difference at 95 %, at least 6 are needed. adamw minus sgd-l2 is "
        "+5.0 points of validation accuracy, adamw better on 1 of 1 seed."
    )
    single, split, size = result.cautions
    assert single.startswith("study.seeds: one seed can never show a difference at 95 %")
    assert "no test split" in split
    assert "only 734 images" in size
    assert "3.5 points" in size


def test_several_challengers_are_holm_corrected(make_trials: MakeTrials) -> None:
    base = 0.9 + NOISE
    better = base + 0.01 + NOISE / 10
    values = {"sgd": base, "adam": base + NOISE, "adamw": better}
    six = compared(study(), list(values), make_trials(values))
    none, strong = six.comparisons
    assert strong.p_value == 2 * 2 / 2**6 / FIRST_SHARE  # the smaller p times 2
    assert none.p_value >= strong.p_value
    assert strong.answer == "not shown"
    assert "at least 7 are needed" in strong.sentence

    seven = {name: [*column, column[0] + 0.001] for name, column in values.items()}
    _, strong = compared(study(7), list(values), make_trials(seven)).comparisons
    assert (strong.answer, strong.better) == ("shown", "adamw")
    assert "Holm-corrected sign-flip p = 0.049" in strong.sentence
    assert "(95 % interval of this pair alone " in strong.sentence


def test_small_uncertain_difference_is_not_shown(make_trials: MakeTrials) -> None:
    base = 0.9 + NOISE
    result = compared(study(), ARMS, make_trials({"sgd-l2": base, "adamw": base + NOISE[::-1] / 4}))
    (pair,) = result.comparisons
    assert pair.answer == "not shown"
    assert pair.sentence.startswith(
        "Not shown: adamw minus sgd-l2 is +0.033 points of test accuracy (95 % interval"
    )


def test_missing_and_foreign_trials_are_all_named(make_trial: MakeTrial) -> None:
    trials = Trials(trials=(make_trial("a", 0), make_trial("a", 1), make_trial("b", 1), make_trial("b", 7)))
    with pytest.raises(DataError) as raised:
        compared(study(2), ["a", "b"], trials)
    assert str(raised.value).splitlines()[1:] == [
        "trial b, seed 0: is missing",
        "trial b, seed 7: is not part of the study",
    ]


def test_foreign_trials_alone_are_refused(make_trial: MakeTrial) -> None:
    trials = Trials(trials=tuple(make_trial(arm, 0) for arm in ("a", "b", "c")))
    with pytest.raises(DataError, match="trial c, seed 0: is not part of the study"):
        compared(study(1), ["a", "b"], trials)


def test_trials_of_different_splits_are_refused(make_trial: MakeTrial) -> None:
    trials = Trials(trials=(make_trial("a", 0), make_trial("b", 0, split="validation")))
    with pytest.raises(
        DataError, match=r"trial b, seed 0: .* validation split, but trial a, seed 0 .* test split"
    ):
        compared(study(1), ["a", "b"], trials)


def test_trials_are_collected_in_order(make_trial: MakeTrial) -> None:
    both = collect([make_trial(arm, seed) for arm in ("a", "b") for seed in (0, 1)])
    assert [(trial.training.arm, trial.training.seed) for trial in both.trials] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("b", 1),
    ]


def test_one_trial_is_collected_too(make_trial: MakeTrial) -> None:
    trial = make_trial("a", 0)
    assert collect([trial]) == Trials(trials=(trial,))


def test_collecting_refuses_what_does_not_belong_together(make_trial: MakeTrial) -> None:
    trial = make_trial("a", 0)
    with pytest.raises(DataError, match="trial a, seed 0: is there twice"):
        collect([trial, trial])
    other = make_trial("a", 1)
    mixed = other.model_copy(update={"evaluation": trial.evaluation})
    with pytest.raises(DataError, match="trial a, seed 1: seed = 0 was evaluated, 1 trained"):
        collect([mixed])
    elsewhere = other.training.model_copy(update={"data_fingerprint": "e" * 64})
    with pytest.raises(DataError, match="trial a, seed 1: data = eeee"):
        collect([trial, other.model_copy(update={"training": elsewhere})])


def test_comparison_survives_its_document(make_trials: MakeTrials, tmp_path: Path) -> None:
    result = compared(study(1), ["a", "b"], make_trials({"a": [0.5], "b": [0.6]}))
    write_document(tmp_path / "comparison.json", result)
    assert read_document(tmp_path / "comparison.json", Comparison) == result
    assert json.loads((tmp_path / "comparison.json").read_bytes())["comparisons"][0]["p_value"] is None

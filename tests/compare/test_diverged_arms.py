"""An arm that diverges loses by it, or nothing is said; never does it gain."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optduel.components.compare.summary import markdown, scalars
from optduel.components.results import Comparison, Trials
from optduel.components.settings import FIRST_SHARE, Study
from tests.compare import conftest
from tests.results.divergences import with_lost

EIGHT = tuple(range(8))
MakeTrials = Callable[..., Trials]


def compared(trials: Trials, lost: set[tuple[str, int]], arms: tuple[str, ...] = ("a", "b")) -> Comparison:
    return conftest.compared(Study(seeds=EIGHT), arms, with_lost(trials, lost))


@pytest.fixture
def trials(make_trials: MakeTrials) -> Trials:
    """Arm `b` is better than `a` on every seed, by 1.0 to 1.7 points."""
    return make_trials({"a": [0.9] * 8, "b": [0.91 + seed / 1000 for seed in EIGHT]})


def test_seeds_on_which_an_arm_diverged_are_left_out_and_said(trials: Trials) -> None:
    comparison = compared(trials, {("a", 0), ("a", 5)})
    (pair,) = comparison.comparisons
    assert pair.seeds == (1, 2, 3, 4, 6, 7)
    assert pair.mean_difference == pytest.approx((11 + 12 + 13 + 14 + 16 + 17) / 6000)
    assert [arm.seeds for arm in comparison.arms] == [pair.seeds, pair.seeds]
    assert [arm.diverged for arm in comparison.arms] == [(0, 5), ()]
    assert comparison.arms[1].median_accuracy == pytest.approx(0.9135)
    first, second, *_ = comparison.cautions
    assert first == (
        "a diverged on 2 of 8 seeds: seed 0, loss or gradient not finite at step 7, in epoch 1; "
        "seed 5, loss or gradient not finite at step 7, in epoch 1."
    )
    assert second.startswith("Seeds on which an arm diverged are left out for every arm: 6 of 8 seeds are ")
    # The arm that never diverged may win: what is left out speaks for it.
    assert (pair.answer, pair.better) == ("shown", "b")
    assert pair.sentence.startswith("b is better than a on these test images: ")
    assert pair.sentence.endswith(
        " Left out: a diverged on 2 of 8 seeds; an arm that diverged is not called better."
    )


def test_an_arm_that_diverged_is_not_called_better(trials: Trials) -> None:
    """On the six seeds that it survived p is 2/2^6, as in a study of six seeds."""
    (pair,) = compared(trials, {("b", 0), ("b", 5)}).comparisons
    assert pair.p_value == 2 / 2**6 / FIRST_SHARE
    assert (pair.answer, pair.better) == ("not shown", None)
    assert pair.sentence.startswith("Not shown: b minus a is +1.4 points of test accuracy (95 % interval ")
    assert "b diverged on 2 of 8 seeds" in pair.sentence


def test_too_few_seeds_that_are_left_show_nothing(trials: Trials) -> None:
    (pair,) = compared(trials, {("a", 0), ("b", 1), ("b", 5)}).comparisons
    assert pair.sentence.startswith("Not shown: 5 seeds can never show a difference at 95 %")
    assert " Left out: a diverged on 1 of 8 seeds, b diverged on 2 of 8 seeds; " in pair.sentence


@pytest.mark.parametrize(
    "lost",
    [
        {("b", seed) for seed in EIGHT},
        {("a", seed) for seed in EIGHT},
        {(arm, seed) for arm in "ab" for seed in EIGHT},
        {("a" if seed % 2 else "b", seed) for seed in EIGHT},
    ],
    ids=["challenger", "baseline", "everything", "no common seed"],
)
def test_with_no_seed_left_there_is_a_reason_and_no_number(
    trials: Trials, lost: set[tuple[str, int]]
) -> None:
    comparison = compared(trials, lost)
    (pair,) = comparison.comparisons
    assert pair.sentence.startswith(
        "Not shown: a and b finished together on no seed, nothing can be compared. Left out: "
    )
    assert (pair.answer, pair.better, pair.seeds, pair.differences) == ("not shown", None, (), ())
    numbers = (pair.mean_difference, pair.median_difference, pair.p_value, pair.probability_challenger_better)
    assert numbers == (None, None, None, None)
    assert comparison.split == "test"
    shown = scalars(comparison)
    assert shown["b answer"] == "not shown"
    assert "b difference" not in shown
    assert sum(value for name, value in shown.items() if name.endswith(" diverged")) == len(lost)
    assert "| b minus a | &nbsp;&nbsp;none |" in markdown(Study(seeds=EIGHT), comparison)
    assert Comparison.model_validate_json(comparison.canonical_json()) == comparison


def test_arms_that_did_the_same_diverged_alike(make_trials: MakeTrials) -> None:
    same = make_trials({"a": [0.9] * 8, "b": [0.9] * 8})
    assert compared(same, {("a", 3), ("b", 3)}).comparisons[0].answer == "no difference"
    assert compared(same, {("a", 3), ("b", 4)}).comparisons[0].answer == "not shown"
    assert compared(same, {("b", 3)}).comparisons[0].answer == "not shown"


def test_an_arm_that_finished_nowhere_costs_the_others_no_seed(make_trials: MakeTrials) -> None:
    three = make_trials({"a": [0.9] * 8, "b": [0.92] * 8, "c": [0.5] * 8})
    comparison = compared(three, {("c", seed) for seed in EIGHT}, ("a", "b", "c"))
    first, second = comparison.comparisons
    assert (first.better, first.p_value) == ("b", 2 * 2 / 2**8 / FIRST_SHARE), (
        "corrected for both comparisons"
    )
    assert (second.answer, second.seeds) == ("not shown", ())
    assert comparison.arms[2].median_accuracy is None


COLUMN = st.lists(st.sampled_from([0.5, 0.6, 0.7]), min_size=8, max_size=8)


@given(
    values=st.tuples(COLUMN, COLUMN),
    lost=st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 7))),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_diverging_never_makes_an_arm_better(
    values: tuple[list[float], list[float]], lost: set[tuple[str, int]], make_trials: MakeTrials
) -> None:
    (pair,) = compared(make_trials(dict(zip("ab", values, strict=True))), lost).comparisons
    assert pair.better not in {arm for arm, _ in lost}
    assert set(pair.seeds).isdisjoint(seed for _, seed in lost)

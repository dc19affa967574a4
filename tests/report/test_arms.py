"""What the page says about decay, and where it puts the dots."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.compare.compare import compare_arms
from optduel.components.report.arms import (
    SPARKLINE_HEIGHT,
    SPARKLINE_WIDTH,
    ArmCard,
    arm_cards,
    decay_notes,
    decay_warnings,
    schedule_warnings,
)
from optduel.components.report.differences import WIDTH, difference_plots
from optduel.components.results import PairedComparison
from optduel.components.settings import AdamwArm, Experiment, Study, validate

CONSTANT = {"schedule": "constant", "base": 0.001}


def sgd(name: str, l2: float, base: float = 0.001) -> dict[str, Any]:
    return {"name": name, "optimizer": "sgd", "l2": l2, "learning_rate": {**CONSTANT, "base": base}}


def adamw(name: str, weight_decay: float) -> dict[str, Any]:
    return {"name": name, "optimizer": "adamw", "weight_decay": weight_decay, "learning_rate": CONSTANT}


def cards_of(*arms: dict[str, Any]) -> list[ArmCard]:
    document = {
        "name": "x",
        "title": "X",
        "data": {"source": {"kind": "digits"}, "image_size": [8, 8]},
        "model": {"name": "linear"},
        "arms": list(arms),
        "training": {"epochs": 10, "global_batch_size": 10},
        "study": {"seeds": [0]},
    }
    return arm_cards(validate(Experiment, document, "x"), 1000)


def test_decays_of_like_strength_need_no_warning() -> None:
    # 1000 steps at rate 0.001: a decay d shrinks a weight by 1 - (1 - 0.001 d)^1000.
    assert decay_warnings(cards_of(sgd("a", 0.005), adamw("b", 0.5))) == []


def test_decay_that_does_nothing_is_called_so() -> None:
    (warning, _) = decay_warnings(cards_of(sgd("a", 0.005), adamw("b", 0.0005)))
    assert warning.startswith(
        "b: its decay is practically zero. Over the whole run it shrinks a weight by 0.05 %"
    )


def test_decays_far_apart_are_named_with_their_ratio() -> None:
    (warning,) = decay_warnings(cards_of(adamw("weak", 0.01), adamw("strong", 0.15), adamw("between", 0.1)))
    weak, strong = 100 * (1 - (1 - 1e-5) ** 1000), 100 * (1 - (1 - 1.5e-4) ** 1000)
    assert warning.startswith(
        "weak and strong are not regularized alike: over the run decay shrinks a weight by "
    )
    assert f" by {weak:.2g} % and by {strong:.2g} %, and summed over the steps it is 15 times as" in warning
    assert decay_warnings(cards_of(adamw("weak", 0.01), adamw("strong", 0.1))) == []  # ten times


def test_decays_that_leave_nothing_are_told_apart() -> None:
    (warning,) = decay_warnings(cards_of(adamw("weak", 10), adamw("strong", 900)))
    assert "weak and strong are not regularized alike" in warning
    assert "by 100 % and by 100 %, and summed over the steps it is 90 times as strong." in warning


def test_decay_that_overshoots_is_called_so() -> None:
    cards = cards_of(adamw("a", 2500), adamw("b", 999))
    assert cards[0].decay.shrink_percent == 100
    (warning,) = decay_warnings(cards)
    assert warning.startswith("a: learning rate times weight decay is above 1")


def test_different_schedules_are_named() -> None:
    warmed = adamw("b", 0) | {"learning_rate": CONSTANT | {"warmup_epochs": 1}}
    arms = [validate(AdamwArm, arm, "arm") for arm in (adamw("a", 0), warmed)]
    assert schedule_warnings(arms[:1]) == []
    (warning,) = schedule_warnings(arms)
    assert warning.startswith("The arms differ in schedule or warm-up")


def test_decay_against_none_is_said_but_no_decay_at_all_is_not() -> None:
    (warning,) = decay_warnings(cards_of(sgd("a", 0), sgd("b", 0), adamw("c", 0.5)))
    assert warning == "a, b: no decay, while c has some: with and without it is part of this comparison."
    assert decay_warnings(cards_of(sgd("a", 0), adamw("b", 0))) == []


def test_l2_under_adam_has_no_shrink_and_says_why() -> None:
    adam = {"name": "adam", "optimizer": "adam", "l2": 0.001, "learning_rate": CONSTANT}
    cards = cards_of(sgd("sgd", 0.005), adam)
    assert decay_warnings(cards) == []
    assert cards[1].decay.shrink_percent is None
    assert [names for note, names in decay_notes(cards).items() if "proposition 2" in note] == [["adam"]]


@pytest.mark.parametrize(
    ("learning_rate", "words", "heights"),
    [
        ({"schedule": "constant", "base": 0.1}, "0.1, constant", [2, 2, 2]),
        ({"schedule": "cosine", "base": 0.1, "final_fraction": 0.5}, "0.1, cosine to 0.05", [2, 8, 14]),
        (
            {"schedule": "exponential", "base": 0.1, "factor_per_epoch": 0.5},
            "0.1, times 0.5 an epoch",
            [2, 25.2, 26],
        ),
        (
            {
                "schedule": "step",
                "base": 0.1,
                "boundaries_epochs": [4, 8.5],
                "factor": 0.5,
                "warmup_epochs": 2,
            },
            "0.1, times 0.5 at epoch 4, 8.5; warm-up 2 epochs",
            [25.9, 14, 20],
        ),
    ],
)
def test_schedule_in_words_and_as_a_line(
    learning_rate: dict[str, Any], words: str, heights: list[float]
) -> None:
    card, _ = cards_of({"name": "a", "optimizer": "sgd", "learning_rate": learning_rate}, adamw("b", 0))
    assert card.schedule == words
    points = np.array([[float(number) for number in point.split(",")] for point in card.rates.split()])
    assert (points >= 0).all()
    assert (points <= [SPARKLINE_WIDTH, SPARKLINE_HEIGHT]).all()
    assert points[[0, 30, -1], 1] == pytest.approx(heights, abs=0.3)


def comparison_of(differences: list[float], metric: str, make_study) -> PairedComparison:
    study = make_study(seeds=len(differences), epochs=1, classes=("a", "b"), examples=8)
    trials = []
    for trial in study.trials.trials:
        value = 0.5 + (differences[trial.training.seed] if trial.training.arm == "adamw" else 0)
        interval = trial.evaluation.accuracy.model_copy(update={"value": value})
        trials.append(
            trial.model_copy(update={"evaluation": trial.evaluation.model_copy(update={metric: interval})})
        )
    question = Study(seeds=study.experiment.study.seeds, metric=metric)
    together = study.trials.model_copy(update={"trials": tuple(trials)})
    return compare_arms(question, ["sgd-l2", "adamw"], together).comparisons[0]


@settings(max_examples=40)
@given(
    differences=st.lists(st.integers(-360, 360).map(lambda images: images / 720), min_size=1, max_size=8),
    metric=st.sampled_from(["accuracy", "cross_entropy"]),
)
def test_graphic_keeps_the_order_of_all_it_shows(make_study, differences: list[float], metric: str) -> None:
    comparison = comparison_of(differences, metric, make_study)
    (plot,) = difference_plots([comparison])

    places = [(difference, dot[0]) for difference, dot in zip(comparison.differences, plot.dots, strict=True)]
    places += [(0.0, plot.zero), (comparison.mean_difference, plot.mean)]
    if plot.interval:
        places += zip((comparison.interval_low, comparison.interval_high), plot.interval, strict=True)
    by_value = sorted(places)
    assert [x for _, x in by_value] == pytest.approx(sorted(x for _, x in places), abs=0.11)
    assert all(0 < x < WIDTH for _, x in places)
    assert all(20 < y < 80 for _, y, _ in plot.dots)
    assert len({(x, y) for x, y, _ in plot.dots}) == len(differences)  # no dot hides another
    tick_places = [x for x, _ in plot.ticks]
    assert tick_places == sorted(tick_places)
    assert (plot.zero, "0") in plot.ticks


def test_side_of_the_better_arm_depends_on_the_metric(make_study) -> None:
    (accuracy,) = difference_plots([comparison_of([0.1, 0.2], "accuracy", make_study)])
    assert (accuracy.left, accuracy.right) == ("sgd-l2 better", "adamw better")
    assert accuracy.dots[1][2] == "seed 1: +20 points"
    (loss,) = difference_plots([comparison_of([0.1, 0.2], "cross_entropy", make_study)])
    assert (loss.left, loss.right) == ("adamw better", "sgd-l2 better")
    assert loss.description.startswith(
        "adamw minus sgd-l2 for each seed, in nats: +0.1, +0.2. Mean +0.15, 95 % interval"
    )


def test_several_comparisons_share_one_axis(make_study) -> None:
    narrow, wide = (comparison_of(values, "accuracy", make_study) for values in ([0.01, 0.02], [0.1, -0.2]))
    first, second = difference_plots([narrow, wide])
    assert first.zero == second.zero
    assert first.ticks == second.ticks

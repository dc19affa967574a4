"""What the page says about decay, and where it puts the dots."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.report.arm_cards import (
    SPARKLINE_HEIGHT,
    SPARKLINE_WIDTH,
    ArmCard,
    arm_cards,
    decay_notes,
)
from optduel.components.report.differences import WIDTH, difference_plots
from optduel.components.results import PairedComparison
from optduel.components.settings import Experiment, Study, validate
from tests.compare.conftest import compared

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
    experiment = validate(Experiment, document, "x")
    return arm_cards(experiment.arms, experiment.training, 1000)


def test_l2_under_adam_has_no_shrink_and_says_why() -> None:
    adam = {"name": "adam", "optimizer": "adam", "l2": 0.001, "learning_rate": CONSTANT}
    cards = cards_of(sgd("sgd", 0.005), adam)
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
    return compared(question, ["sgd-l2", "adamw"], together).comparisons[0]


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
        "adamw minus sgd-l2 for each seed, in nats: +0.1, +0.2. Mean +0.15, for other images "
    )


def test_several_comparisons_share_one_axis(make_study) -> None:
    narrow, wide = (comparison_of(values, "accuracy", make_study) for values in ([0.01, 0.02], [0.1, -0.2]))
    first, second = difference_plots([narrow, wide])
    assert first.zero == second.zero
    assert first.ticks == second.ticks

"""What may be searched, which settings are drawn, and what is refused or cautioned before anything is
spent."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optduel.components.core import ExperimentError
from optduel.components.settings import Experiment, cautions, settings_of, validate
from optduel.components.settings.search import LinearRange, ListRange, LogRange, OneMinusLogRange
from optduel.components.settings.tuning import SAMPLERS, grid_sizes

RATE = {"learning_rate.base": {"scale": "log", "low": 0.01, "high": 1}}
SGD = RATE | {"l2": {"scale": "log", "low": 1e-5, "high": 1e-2}}
ADAMW = {
    "learning_rate.base": {"scale": "log", "low": 0.001, "high": 0.1},
    "weight_decay": {"scale": "log", "low": 1e-3, "high": 1},
}
TUNING: dict[str, Any] = {"trials": 8, "seeds": [100]}


def tuned(
    sgd: dict[str, Any] | None = None,
    adamw: dict[str, Any] | None = None,
    tuning: dict[str, Any] | None = None,
    **fields: Any,
) -> Experiment:
    rate = {"schedule": "cosine", "base": 0.05, "warmup_epochs": 1}
    document = {
        "name": "x",
        "title": "X",
        "data": {"source": {"kind": "digits"}, "image_size": [8, 8]},
        "model": {"name": "linear"},
        "arms": [
            {"name": "sgd", "optimizer": "sgd", "learning_rate": rate, "search": SGD if sgd is None else sgd},
            {
                "name": "adamw",
                "optimizer": "adamw",
                "learning_rate": rate,
                "search": ADAMW if adamw is None else adamw,
            },
        ],
        "training": {"epochs": 10, "global_batch_size": 64},
        "tuning": TUNING | (tuning or {}),
        "study": {"seeds": [0, 1, 2, 3, 4, 5]},
    }
    return validate(Experiment, document | fields, "x")


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("arms.sgd.search: is empty", {"sgd": {}}),
    ("low = 2 must be below high = 1", {"sgd": {"l2": {"scale": "log", "low": 2, "high": 1}}}),
    (
        "arms.sgd.search.l2.low: 0: a logarithm has no zero",
        {"sgd": {"l2": {"scale": "log", "low": 0, "high": 1}}},
    ),
    ("search.weight_decay: the arm has no such number; there are l2, momentum,", {"sgd": ADAMW}),
    (
        "did you mean 'learning_rate.warmup_epochs'?",
        {"sgd": {"warmup_epochs": {"scale": "linear", "low": 0, "high": 2}}},
    ),
    ("search.momentum reaches 1: ", {"sgd": {"momentum": {"scale": "linear", "low": 0, "high": 1}}}),
    (
        "search.momentum.high: 1: must be at least 0 and below 1",
        {"sgd": {"momentum": {"scale": "one_minus_log", "low": 0, "high": 1}}},
    ),
    ("search.l2 reaches -1: ", {"sgd": {"l2": {"scale": "list", "values": [-1, 0]}}}),
    ("must increase", {"sgd": {"l2": {"scale": "list", "values": [1, 0]}}}),
    ("values = []: must have at least 2", {"sgd": {"l2": {"scale": "list", "values": []}}}),
    ("nesterov: the arm has no such number", {"sgd": {"nesterov": {"scale": "list", "values": [0, 1]}}}),
    ("tuning.trials = 1: must be greater", {"tuning": {"trials": 1}}),
    ("tuning.seeds: 5: are seeds of the study, too", {"tuning": {"seeds": [100, 5]}}),
    ("tuning.seeds: must differ", {"tuning": {"seeds": [100, 100]}}),
    (
        "a grid over 2 continuous ranges and 1 combination of listed values has so many settings: 4, 9, 16",
        {"tuning": {"sampler": "grid"}},
    ),
]


@pytest.mark.parametrize(("message", "fields"), REFUSED, ids=[message for message, _ in REFUSED])
def test_a_bad_space_gets_one_message(message: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError) as error:
        tuned(**fields)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == (3 if "grid" in message else 2)


def test_arms_that_are_equal_are_refused() -> None:
    arm = {"optimizer": "sgd", "learning_rate": {"schedule": "constant", "base": 0.1}, "search": SGD}
    twice = [{"name": "a"} | arm, {"name": "b"} | arm]
    with pytest.raises(ExperimentError, match="arms.b: equals a, search included"):
        tuned(arms=twice)


def test_a_search_that_is_not_used_is_told() -> None:
    plain = validate(Experiment, tuned().model_dump(mode="json") | {"tuning": None}, "x")
    assert any("tuning = null" in caution for caution in cautions(plain, 1000))


def test_the_fingerprint_covers_the_search_but_not_how_it_is_spread() -> None:
    known = tuned().fingerprint
    assert tuned(tuning={"tasks": 4}).fingerprint == known
    for other in (tuned(sgd=RATE), tuned(tuning={"trials": 9}), tuned(tuning={"seeds": [101]})):
        assert other.fingerprint != known


RANGES = st.one_of(
    st.builds(LinearRange, low=st.floats(0, 1), high=st.floats(2, 3)),
    st.builds(LogRange, low=st.floats(1e-9, 1), high=st.floats(2, 3)),
    st.builds(OneMinusLogRange, low=st.floats(0, 0.9), high=st.floats(0.95, 0.9999)),
    st.builds(ListRange, values=st.sets(st.floats(0, 1), min_size=2).map(lambda found: tuple(sorted(found)))),
)


@given(range_=RANGES, place=st.floats(0, 1))
def test_every_value_that_is_drawn_is_in_its_range(range_: Any, place: float) -> None:
    value, (low, high) = range_.at(place), range_.ends
    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)
    assert range_.holds(value)
    assert range_.at(0) == low
    assert range_.at(1) == high
    assert not range_.holds(high + 1)


def test_ranges_are_even_in_their_scale() -> None:
    assert LogRange(low=0.01, high=1).at(0.5) == pytest.approx(0.1)
    assert OneMinusLogRange(low=0.9, high=0.999).at(0.5) == pytest.approx(0.99)
    assert LinearRange(low=1, high=3).at(0.5) == 2
    assert ListRange(values=(0, 1, 4)).at(0.5) == 1
    assert LogRange(low=0.01, high=1).width == pytest.approx(2)
    assert OneMinusLogRange(low=0.9, high=0.999).width == pytest.approx(2)
    assert ListRange(values=(0, 0.01, 1)).width == pytest.approx(2)


def test_settings_follow_from_the_experiment_and_nothing_else() -> None:
    first, second = tuned(), tuned(sgd=dict(reversed(SGD.items())))
    drawn = settings_of(first.arms[0], first.tuning)
    assert drawn == settings_of(second.arms[0], second.tuning)
    assert drawn[0] == pytest.approx({"l2": 1.057830994e-05, "learning_rate.base": 0.02940083326}, rel=1e-6)
    assert drawn != settings_of(first.arms[1], first.tuning)


def test_arms_get_the_same_places_of_their_spaces() -> None:
    experiment = tuned(adamw=ADAMW | {"weight_decay": {"scale": "log", "low": 1e-4, "high": 1e-1}})
    sgd, adamw = (settings_of(arm, experiment.tuning) for arm in experiment.arms)
    for one, other in zip(sgd, adamw, strict=True):
        assert 10 * one["l2"] == pytest.approx(other["weight_decay"])
        assert one["learning_rate.base"] == pytest.approx(10 * other["learning_rate.base"])


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"grid"}))
def test_a_larger_budget_continues_a_smaller_one(sampler: str) -> None:
    few, many = (tuned(tuning={"sampler": sampler, "trials": trials}) for trials in (5, 40))
    drawn = settings_of(many.arms[0], many.tuning)
    assert drawn[:5] == settings_of(few.arms[0], few.tuning)
    assert len({tuple(setting.values()) for setting in drawn}) == 40
    places = [place_of_l2(setting) for setting in drawn]
    assert stats.kstest(places, "uniform").pvalue > 0.01


def place_of_l2(setting: dict[str, float]) -> float:
    return float(np.log10(setting["l2"] / 1e-5) / 3)


def test_a_grid_takes_all_combinations() -> None:
    listed = RATE | {"l2": {"scale": "list", "values": [0, 0.001]}}
    experiment = tuned(sgd=listed, adamw=ADAMW_LISTED, tuning={"sampler": "grid", "trials": 6})
    found = settings_of(experiment.arms[0], experiment.tuning)
    assert {setting["l2"] for setting in found} == {0, 0.001}
    assert sorted({setting["learning_rate.base"] for setting in found}) == pytest.approx([0.01, 0.1, 1])
    assert len(found) == 6


ADAMW_LISTED = RATE | {"weight_decay": {"scale": "list", "values": [0, 0.1]}}


def test_sizes_of_grids() -> None:
    ranges = [LogRange(low=1, high=2), ListRange(values=(1, 2, 3)), LinearRange(low=1, high=2)]
    assert grid_sizes(ranges, 48) == [4, 3, 4]
    assert grid_sizes(ranges[1:2], 3) == [3]
    with pytest.raises(ValueError, match="give tuning.trials = 3"):
        grid_sizes(ranges[1:2], 4)


def test_a_setting_replaces_what_was_typed_in_and_ends_the_search() -> None:
    arm = tuned().arms[0]
    found = arm.with_setting({"l2": 0.5, "learning_rate.base": 0.25})
    assert (found.l2, found.learning_rate.base, found.search) == (0.5, 0.25, {})
    assert found.learning_rate.warmup_epochs == 1


def cautioned(**fields: Any) -> list[str]:
    return cautions(tuned(**fields), 1000)


def test_spaces_that_are_alike_are_not_cautioned() -> None:
    weaker = ADAMW | {"weight_decay": {"scale": "log", "low": 2e-3, "high": 2}}
    assert cautioned(adamw=weaker) == []


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("sgd 1, adamw 2", {"sgd": RATE}),
        (
            "for the learning rate sgd searches 4 decades and adamw 2",
            {"sgd": SGD | {"learning_rate.base": {"scale": "log", "low": 0.001, "high": 10}}},
        ),
        (
            "sgd and adamw search strengths of decay that do not overlap",
            {"adamw": ADAMW | {"weight_decay": {"scale": "log", "low": 1e3, "high": 1e6}}},
        ),
        (
            "search.learning_rate.base: leaves out 0.05, the value that was typed in",
            {"adamw": ADAMW | {"learning_rate.base": {"scale": "log", "low": 0.1, "high": 10}}},
        ),
    ],
)
def test_spaces_that_favour_an_arm_are_cautioned(part: str, fields: dict[str, Any]) -> None:
    assert any(part in caution for caution in cautioned(**fields)), cautioned(**fields)

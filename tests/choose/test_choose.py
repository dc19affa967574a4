"""The choice from what tuning found: rank, doubts, curves, the slope of the valley, and the page about it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optduel.components.champions import trained_arms
from optduel.components.choose.choose import choose, scalars
from optduel.components.choose.coupling import valley
from optduel.components.choose.curves import tuning_curve
from optduel.components.core import ExperimentError, StorageError
from optduel.components.report.tuning_page import tuning_page
from optduel.components.results import (
    CHOICE_NAME,
    Choice,
    Row,
    TaskCost,
    TunedSetting,
    TunedTrial,
    run_folder,
    write_document,
)
from optduel.components.settings import Experiment, settings_of, validate
from optduel.components.storage import join

RATE = {"scale": "log", "low": 0.01, "high": 1}
DECAY = {"scale": "log", "low": 0.0001, "high": 0.01}
Loss = Callable[[float, float], float]


def experiment_of(seeds: Sequence[int] = (100,), trials: int = 20, sampler: str = "random") -> Experiment:
    rate = {"schedule": "constant", "base": 0.1}
    document = {
        "name": "x",
        "title": "A <b>title</b>",
        "data": {"source": {"kind": "digits"}, "image_size": [8, 8]},
        "model": {"name": "linear"},
        "arms": [
            {
                "name": "sgd",
                "optimizer": "sgd",
                "learning_rate": rate,
                "search": {"learning_rate.base": RATE, "l2": DECAY},
            },
            {
                "name": "adamw",
                "optimizer": "adamw",
                "learning_rate": rate,
                "search": {"learning_rate.base": RATE, "weight_decay": DECAY},
            },
        ],
        "training": {"epochs": 2, "global_batch_size": 64},
        "tuning": {
            "trials": trials,
            "seeds": list(seeds),
            "metric": "cross_entropy",
            "sampler": sampler,
            "target": 0.5,
        },
        "study": {"seeds": [0, 1, 2, 3, 4, 5]},
    }
    return validate(Experiment, document, "x")


def trial(seed: int, loss: float | None) -> TunedTrial:
    rows = [
        Row(
            event="epoch",
            split="validation",
            step=20 * epoch,
            epoch=epoch,
            examples=100,
            cross_entropy=(loss or 1) * (3 - epoch),
            penalty=0,
            total=0,
            accuracy=1 / (1 + (loss or 1)),
            learning_rate=0,
            decay=0,
            gradient_norm=0,
            weight_norm=0,
            examples_per_second=1,
            wall_seconds=epoch,
        )
        for epoch in (1, 2)
    ]
    return TunedTrial(
        fingerprint="f",
        data_fingerprint="d",
        seed=seed,
        precision="float32",
        workers=1,
        replicas=1,
        started="2026-11-28",
        epoch=2,
        steps=40 if loss is not None else 5,
        seconds=2.0,
        validation=tuple(rows) if loss is not None else (),
        diverged=None if loss is not None else "loss not finite at step 5, in epoch 1",
    )


def found_by(experiment: Experiment, loss: Loss) -> dict[str, list[TunedSetting]]:
    """Settings whose loss is a function of log2 of rate and decay, on every seed; not finite: diverged."""
    assert experiment.tuning is not None
    found: dict[str, list[TunedSetting]] = {}
    for arm in experiment.arms:
        found[arm.name] = []
        for number, values in enumerate(settings_of(arm, experiment.tuning), start=1):
            rate, decay = np.log2(values["learning_rate.base"]), np.log2(values[arm.decay_field])
            value = loss(float(rate), float(decay))
            trials = [
                trial(seed, value * (1 + 0.001 * index) if np.isfinite(value) else None)
                for index, seed in enumerate(experiment.tuning.seeds)
            ]
            found[arm.name].append(TunedSetting(number=number, values=values, trials=tuple(trials)))
    return found


def choice_of(loss: Loss, **fields: Any) -> Choice:
    experiment = experiment_of(**fields)
    assert experiment.tuning is not None
    return choose(experiment, experiment.tuning, found_by(experiment, loss))


def middle(rate: float, decay: float) -> float:
    return 0.1 + 0.01 * ((rate + 3.3) ** 2 + (decay + 10) ** 2)


def test_the_best_median_is_chosen_and_passed_on() -> None:
    choice = choice_of(middle, seeds=(100, 101, 102))
    for arm in choice.arms:
        medians = [one.median("cross_entropy") for one in arm.settings]
        assert medians == sorted(medians, key=lambda median: median or np.inf)
        assert arm.values == arm.settings[0].values == choice.chosen()[arm.arm]
    experiment = experiment_of()
    settled = choice.settled(experiment.arms)
    assert settled[0].learning_rate.base == choice.arms[0].values["learning_rate.base"]
    assert settled[0].search == {}


def test_a_champions_arm_is_the_one_that_was_trained(tmp_path: Path) -> None:
    experiment, choice, root = experiment_of(), choice_of(middle), str(tmp_path)
    with pytest.raises(StorageError, match=r"choice\.json"):
        trained_arms(root, "one", experiment)
    write_document(join(run_folder(root, "one"), CHOICE_NAME), choice)
    assert trained_arms(root, "one", experiment) == choice.settled(experiment.arms)
    plain = experiment.model_copy(update={"tuning": None})
    assert trained_arms(root, "one", plain) == experiment.arms


def test_a_median_counts_a_diverged_seed_as_the_worst() -> None:
    values = {"l2": 0.001}
    one = TunedSetting(number=1, values=values, trials=(trial(1, 0.1), trial(2, None), trial(3, 0.3)))
    assert one.median("cross_entropy") == pytest.approx(0.3)
    lost = TunedSetting(number=2, values=values, trials=(trial(1, 0.1), trial(2, None), trial(3, None)))
    assert lost.median("cross_entropy") is None


def test_a_tuning_in_which_all_settings_diverged_is_refused() -> None:
    with pytest.raises(ExperimentError, match="arms.sgd.search: all 20 settings diverged"):
        choice_of(lambda rate, decay: np.inf)


def test_the_best_at_an_edge_is_told_with_its_side() -> None:
    choice = choice_of(lambda rate, decay: 1.1 + rate * 0.1, trials=60)
    for arm in choice.arms:
        assert any(
            re.search(r"at the low edge of learning_rate.base, .* with \d+ of the 10 best", warning)
            for warning in arm.warnings
        )
    assert not any("edge of learning_rate" in warning for warning in choice_of(middle).arms[0].warnings)


@pytest.mark.parametrize(("seeds", "is_told"), [((100,), True), (tuple(range(100, 106)), False)])
def test_the_best_is_told_apart_from_the_next_only_by_enough_seeds(
    seeds: tuple[int, ...], is_told: bool
) -> None:
    warnings = choice_of(middle, seeds=seeds).arms[0].warnings
    assert any("not told apart from the next" in warning for warning in warnings) == is_told


def test_unequal_compute_is_told() -> None:
    choice = choice_of(lambda rate, decay: np.inf if rate > -2 else middle(rate, decay))
    assert choice.warnings == ()  # both arms lost the same settings
    experiment = experiment_of()
    assert experiment.tuning is not None
    found = found_by(experiment, middle)
    lost = [one.model_copy(update={"trials": (trial(100, None),)}) for one in found["sgd"][:10]]
    unequal = choose(experiment, experiment.tuning, found | {"sgd": [*lost, *found["sgd"][10:]]})
    assert any("unequal compute: adamw 800 optimizer steps and sgd 450" in one for one in unequal.warnings)
    assert unequal.arms[0].cost.diverged == 10


def test_time_to_target_is_of_the_chosen_setting() -> None:
    target = choice_of(middle).arms[0].target
    assert target is not None
    assert (target.epochs, target.seconds) == (1, 1)
    hopeless = choice_of(lambda rate, decay: 5.0).arms[0].target
    assert hopeless is not None
    assert (hopeless.epochs, hopeless.settings) == (None, 0)


def costs_of(price: float | None) -> list[TaskCost]:
    """Two tasks tuned `sgd`, one tuned `adamw`, and another trained something."""
    tasks = (("tune sgd", 7200.0), ("tune sgd", 1800.0), ("tune adamw", 3600.0), ("train", 9e9))
    return [
        TaskCost(
            task=task,
            started="2026-11-28",
            seconds=seconds,
            processor_seconds=4 * seconds,
            accelerator_seconds=seconds,
            price=None if price is None else price * seconds / 3600,
            currency=None if price is None else "EUR",
        )
        for task, seconds in tasks
    ]


def test_each_arms_search_costs_what_its_tasks_cost() -> None:
    experiment = experiment_of()
    assert experiment.tuning is not None
    found = found_by(experiment, middle)
    choice = choose(experiment, experiment.tuning, found, costs_of(2))
    sgd, adamw = (arm.cost.spent for arm in choice.arms)
    assert (sgd.tasks, sgd.processor_seconds, sgd.accelerator_seconds, sgd.price) == (2, 36_000, 9_000, 5)
    assert (adamw.tasks, adamw.price, adamw.currency) == (1, 2, "EUR")
    assert scalars(choice)["sgd price in EUR"] == 5
    free = choose(experiment, experiment.tuning, found, costs_of(None))
    assert free.arms[0].cost.spent.price is None
    assert not any("price" in name for name in scalars(free))


# --- curves ---------------------------------------------------------------------------------------


def curve_of(losses: Sequence[float | None], sampler: str = "random", confidence: float = 0.95) -> Any:
    settings = [
        TunedSetting(number=number, values={"l2": 1.0}, trials=(trial(1, loss),))
        for number, loss in enumerate(losses)
    ]
    return tuning_curve(settings, "cross_entropy", sampler, confidence)


def test_a_curve_falls_with_the_budget_and_lies_in_its_band() -> None:
    losses = np.random.default_rng(1).lognormal(size=30).tolist()
    curve = curve_of([*losses, None])
    values = [point.value for point in curve]
    assert values == sorted(values, reverse=True)
    assert values[-1] >= min(losses)
    assert all((point.low or 0) <= point.value <= (point.high or np.inf) for point in curve)
    assert all(point.low is None and point.high is None for point in curve_of(losses, "sobol"))


def test_a_band_covers_the_true_curve() -> None:
    """Of uniform scores the median of the best of n is known; nominal 90 %, all budgets together."""
    covered, budgets = 0, np.arange(1, 13)
    truth = 1 - 0.5 ** (1 / budgets)
    for seed in range(200):
        losses = np.random.default_rng(seed).uniform(size=12).tolist()
        curve = curve_of(losses, confidence=0.9)
        covered += all(
            (point.low or 0) <= true <= (1 if point.high is None else point.high)
            for point, true in zip(curve, truth, strict=True)
        )
    assert covered / 200 >= 0.9


# --- the valley -----------------------------------------------------------------------------------

GRID = np.array([(x, y) for x in range(7) for y in range(7)], dtype=np.float64) - 3

SURFACES: list[tuple[str, Loss, float]] = [
    ("round", lambda x, y: x * x + y * y, 0),
    ("long in x", lambda x, y: 0.1 * x * x + y * y, 0),
    ("square", lambda x, y: max(abs(x), abs(y)), 0),
    ("diagonal", lambda x, y: (x + y) ** 2 + 0.05 * (x - y) ** 2, -0.9),
    ("only the product counts", lambda x, y: (x + y) ** 2, -1),
    ("half way", lambda x, y: np.log1p(x * x + (y + 0.5 * x) ** 2), -0.5),
]


@pytest.mark.parametrize(("name", "surface", "slope"), SURFACES, ids=[name for name, _, _ in SURFACES])
def test_the_slope_of_known_surfaces(name: str, surface: Loss, slope: float) -> None:
    noise = np.random.default_rng(2).normal(0, 0.05, len(GRID))
    heights = np.array([surface(x, y) for x, y in GRID]) + noise
    found = valley(np.column_stack([GRID, heights]))
    assert found is not None
    assert found.slope == pytest.approx(slope, abs=0.1)
    assert found.error < 0.2
    # Another unit of decay, that times the rate, adds exactly one.
    sheared = valley(np.column_stack([GRID[:, 0], GRID[:, 1] + GRID[:, 0], heights]))
    assert sheared is not None
    assert sheared.slope == pytest.approx(found.slope + 1)


@pytest.mark.parametrize("surface", [lambda x, y: x * x, lambda x, y: x * x - y * y])
def test_where_no_decay_is_best_there_is_no_slope(surface: Loss) -> None:
    heights = np.array([surface(x, y) for x, y in GRID]) + np.random.default_rng(3).normal(0, 0.1, len(GRID))
    assert valley(np.column_stack([GRID, heights])) is None
    assert valley(np.empty((0, 3))) is None


def test_claims_are_seen_or_not_with_their_numbers() -> None:
    def diagonal(rate: float, decay: float) -> float:
        return float(np.exp(0.05 * ((rate + decay + 13.3) ** 2 + 0.02 * rate**2)))

    choice = choice_of(diagonal, trials=49, sampler="grid")
    sgd, adamw = choice.claims
    assert sgd.startswith("sgd: seen: the good settings of L2 lie on a diagonal")
    # Along this diagonal of rate and weight_decay the paper's decay, their product, is one and the same.
    assert adamw.startswith("adamw: seen: the good settings of decoupled decay do not lie on a diagonal")
    assert choice.arms[0].coupling is not None
    assert f"Slope {choice.arms[0].coupling.slope:.2f}" in sgd
    noise = np.random.default_rng(0)
    told = choice_of(lambda rate, decay: float(noise.uniform(1, 2)), trials=49, sampler="grid").claims
    assert [line.split(": ")[1] for line in told] == ["not told", "not told"]


@pytest.mark.parametrize(
    ("loss", "sampler", "told"),
    [
        (lambda rate, decay: 15 + decay, "grid", "adam: seen: the best L2 for Adam is about none. "),
        (
            lambda rate, decay: 1 + (decay + 10) ** 2 / 20,
            "grid",
            "adam: not seen: the best L2 for Adam is about none. ",
        ),
        (lambda rate, decay: 15 + decay, "random", None),
    ],
    ids=["none is best", "some is best", "no grid"],
)
def test_the_best_l2_for_adam_is_told_from_a_grid(loss: Loss, sampler: str, told: str | None) -> None:
    document = experiment_of(trials=49, sampler=sampler).model_dump(mode="json")
    kept = {name: document["arms"][0][name] for name in ("learning_rate", "search")}
    document["arms"][1] = kept | {"name": "adam", "optimizer": "adam", "l2": 0.001}
    experiment = validate(Experiment, document, "x")
    assert experiment.tuning is not None
    claims = choose(experiment, experiment.tuning, found_by(experiment, loss)).claims
    lines = [line for line in claims if "L2 for Adam" in line]
    assert len(lines) == (told is not None)
    if told:
        assert lines[0].startswith(told)
        decays = np.linspace(*np.log2([0.0001, 0.01]), 7)
        weakest, best = loss(0, float(decays[0])), min(loss(0, float(decay)) for decay in decays)
        gain = f"lowers the validation loss by {100 * (1 - best / weakest):.1f} % against 0.0001"
        assert gain in lines[0]


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_the_page_needs_nothing_beside_it_and_escapes_names(sampler: str) -> None:
    experiment = experiment_of(trials=25, sampler=sampler)
    assert experiment.tuning is not None
    found = found_by(experiment, lambda rate, decay: np.inf if rate > -1 else middle(rate, decay))
    # Prices are shown where there are any.
    choice = choose(experiment, experiment.tuning, found, costs_of(2) if sampler == "grid" else [])
    page = tuning_page(experiment, choice)
    assert ("<td>5.00 EUR</td><td>2.00 EUR</td>" in page) == (sampler == "grid")
    assert ("GPU-seconds" in page) == (sampler == "grid")
    assert "A &lt;b&gt;title&lt;/b&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    for arm in choice.arms:
        assert f">{arm.chosen}</td>" in page
        for warning in arm.warnings:
            assert warning in page
    assert page == tuning_page(experiment, choice)

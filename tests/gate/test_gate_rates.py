"""The gate, simulated: how often it promotes an equal model, and refuses a worse one."""

import numpy as np
import pytest

from optduel.components.gate.criteria import class_floors, the_rule
from optduel.components.gate.paired import Outcomes
from optduel.components.settings import Gate

IMAGES = 400
STUDIES = 1000
AGREEMENT = 0.88
"""Of the images, on which two trained models of one kind are right or wrong together."""


def simulated(difference: float, generator: np.random.Generator, images: int = IMAGES) -> Outcomes:
    """A champion with 85 % accuracy, and a candidate whose accuracy differs from it by `difference`."""
    disagreement = 1 - AGREEMENT
    won, lost = (disagreement + difference) / 2, (disagreement - difference) / 2
    both = 0.85 - lost
    kinds = generator.choice(4, size=images, p=[both, won, lost, 1 - both - won - lost])
    labels = generator.integers(5, size=images)
    wrong = (labels + 1) % 5
    candidate = np.where((kinds == 0) | (kinds == 1), labels, wrong)
    champion = np.where((kinds == 0) | (kinds == 2), labels, wrong)
    noise = generator.exponential(0.5, images)
    losses = [np.where(predicted == labels, 0.1, 2.0) + noise for predicted in (candidate, champion)]
    return Outcomes(labels, candidate, champion, *losses, 5)


def promoted(gate: Gate, difference: float, studies: int = STUDIES) -> float:
    """How often the rule lets pass."""
    generator = np.random.default_rng(0)
    return float(np.mean([the_rule(simulated(difference, generator), gate).passed for _ in range(studies)]))


def test_an_equal_model_passes_within_the_margin_and_a_worse_one_is_refused() -> None:
    gate = Gate(margin=0.05)
    assert promoted(gate, 0) > 0.75
    assert promoted(gate, -0.1) < 0.001, "worse by twice the margin"


def test_non_inferiority_holds_its_level_at_the_margin() -> None:
    """Two-sided 95 %: a model that is worse by just the margin passes in at most 2.5 %."""
    assert 0.01 < promoted(Gate(margin=0.05), -0.05) < 0.025 + 3 * np.sqrt(0.025 * 0.975 / STUDIES)


def test_superiority_holds_its_level_for_an_equal_model() -> None:
    """The exact test is two-sided: an equal model passes as better in at most 2.5 %."""
    superior = Gate(rule="superior")
    assert promoted(superior, 0) <= 0.025
    assert promoted(superior, 0.06) > 0.9


@pytest.mark.parametrize("metric", ["cross_entropy", pytest.param("macro_f1", marks=pytest.mark.exhaustive)])
def test_the_bootstraps_hold_their_level(metric: str) -> None:
    studies = 80
    bound = 0.025 + 3 * np.sqrt(0.025 * 0.975 / studies)
    gate = Gate.model_validate({"rule": "superior", "metric": metric})
    assert promoted(gate, 0, studies) < bound
    assert promoted(gate, 0.08, studies) > 0.9
    margin = 0.05 * 1.9 if metric == "cross_entropy" else 0.05
    at_margin = Gate.model_validate({"metric": metric, "margin": margin})
    assert promoted(at_margin, -0.05, studies) < bound


def test_class_floors_refuse_equal_models_rarely_and_a_lost_class_always() -> None:
    gate = Gate(class_floor=0.05)
    generator = np.random.default_rng(0)
    refused = [
        not all(one.passed for one in class_floors(simulated(0, generator), "abcde", gate))
        for _ in range(300)
    ]
    assert np.mean(refused) < 0.05
    outcomes = simulated(0, generator)
    candidate = np.where(outcomes.labels == 2, 3, outcomes.candidate)
    lost = Outcomes(**{**vars(outcomes), "candidate": candidate})
    failed = [one for one in class_floors(lost, "abcde", gate) if not one.passed]
    assert [one.name for one in failed] == ["class c"]
    assert failed[0].p_value is not None
    assert failed[0].p_value < 1e-6

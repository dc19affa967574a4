import math
from typing import Any

import numpy as np
import pytest

from optduel.components.settings import (
    AdamArm,
    AdamwArm,
    ConstantSchedule,
    CosineSchedule,
    Decay,
    SgdArm,
    SgdwArm,
    StepSchedule,
    convert,
    learning_rates,
)
from optduel.components.settings.decay import strength

EPOCHS = 7


def sgd(l2: float, base: float = 1e-3, momentum: float = 0.9) -> SgdArm:
    return SgdArm(name="sgd", learning_rate=ConstantSchedule(base=base), l2=l2, momentum=momentum)


def adamw(weight_decay: float, base: float = 3e-4) -> AdamwArm:
    return AdamwArm(name="adamw", learning_rate=ConstantSchedule(base=base), weight_decay=weight_decay)


# By how many percent decay alone shrinks a weight under the tutorial's two arms.
@pytest.mark.parametrize(
    ("examples", "batch", "adamw_percent", "sgd_percent"),
    [(2936, 32, 0.019, 1.3), (3120, 32, 0.021, 1.4), (3120, 64, 0.010, 0.7)],
)
def test_the_tutorial_hardly_decays(
    examples: int, batch: int, adamw_percent: float, sgd_percent: float
) -> None:
    assert round(percent(convert(adamw(1e-3), examples, batch, EPOCHS)), 3) == adamw_percent
    assert round(percent(convert(sgd(1e-3), examples, batch, EPOCHS)), 1) == sgd_percent


# What the paper's optimum, normalized lambda 0.025 to 0.05, and a time scale of 7 epochs or 1 mean for AdamW.
@pytest.mark.parametrize(
    ("examples", "batch", "paper_range", "time_scale_range"),
    [
        (2936, 32, (3.3, 6.6), (5.2, 36)),
        (3120, 32, (3.2, 6.4), (4.9, 34)),
        (3120, 64, (4.5, 9.0), (9.7, 68)),
    ],
)
def test_paper_strengths_in_the_units_of_keras(
    examples: int, batch: int, paper_range: tuple[float, float], time_scale_range: tuple[float, float]
) -> None:
    normalized = [convert(adamw(decay), examples, batch, EPOCHS).normalized_lambda for decay in paper_range]
    time_scales = [
        convert(adamw(decay), examples, batch, EPOCHS).time_scale_epochs for decay in time_scale_range
    ]
    assert normalized == pytest.approx([0.025, 0.05], rel=0.02)  # the ranges are given to two digits
    assert time_scales == pytest.approx([7, 1], rel=0.02)


def test_every_convention_of_adamw_by_hand() -> None:
    decay = convert(adamw(0.5, base=0.25), example_count=16, global_batch_size=4, epochs=4)
    assert decay == Decay(
        declared="weight_decay",
        l2_keras=None,
        l2_torch=None,
        weight_decay=0.5,
        paper_lambda=0.125,
        normalized_lambda=0.125 * math.sqrt(16 * 4 / 4),
        shrink_percent=pytest.approx(100 * (1 - 0.875**16)),
        time_scale_epochs=1 / (0.125 * 4),
        note="",
    )


def test_every_convention_of_sgd_with_l2_by_hand() -> None:
    decay = convert(sgd(0.25, base=0.125, momentum=0.5), example_count=16, global_batch_size=4, epochs=4)
    assert decay == Decay(
        declared="l2",
        l2_keras=0.25,
        l2_torch=0.5,
        weight_decay=1.0,
        paper_lambda=0.125,
        normalized_lambda=0.5,
        shrink_percent=pytest.approx(100 * (1 - 0.875**16)),
        time_scale_epochs=2.0,
        note="decoupled equivalent holds asymptotically under momentum",
    )


def test_sgdw_declares_what_adamw_does() -> None:
    schedule = CosineSchedule(base=0.1, warmup_epochs=1)
    arms: list[Any] = [SgdwArm, AdamwArm]
    first, second = (arm(name="a", learning_rate=schedule, weight_decay=0.3) for arm in arms)
    assert convert(first, 100, 8, 5) == convert(second, 100, 8, 5)


def test_l2_under_adam_has_no_decoupled_equivalent() -> None:
    arm = AdamArm(name="adam", learning_rate=ConstantSchedule(base=1e-3), l2=0.25)
    decay = convert(arm, 100, 10, 3)
    assert (decay.declared, decay.l2_keras, decay.l2_torch) == ("l2", 0.25, 0.5)
    assert decay.weight_decay is decay.paper_lambda is decay.normalized_lambda is None
    assert decay.shrink_percent is decay.time_scale_epochs is None
    assert "proposition 2" in decay.note


@pytest.mark.parametrize("arm", [sgd(0), adamw(0), AdamArm(name="a", learning_rate=ConstantSchedule(base=1))])
def test_no_decay_needs_no_note_and_has_no_time_scale(arm: Any) -> None:
    decay = convert(arm, 100, 10, 3)
    assert decay.note == ""
    assert decay.time_scale_epochs is None
    assert not decay.shrink_percent


def test_plain_sgd_with_l2_needs_no_caution() -> None:
    assert convert(sgd(0.1, momentum=0), 100, 10, 3).note == ""


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_l2_shrinks_a_weight_as_its_decoupled_equivalent_says(momentum: float) -> None:
    arm = sgd(1e-3, base=0.01, momentum=momentum)
    weight, velocity, steps = 1.0, 0.0, 20_000
    for _ in range(steps):  # Keras' SGD on the L2 term alone
        velocity = momentum * velocity - 0.01 * 2 * 1e-3 * weight
        weight += velocity
    # The equivalence is asymptotic: momentum starts late by 1 / (1 - momentum) steps, of 20,000.
    assert percent(convert(arm, steps, 1, 1)) == pytest.approx(100 * (1 - weight), rel=1e-3)


def test_shrinking_follows_the_schedule() -> None:
    schedule = StepSchedule(base=0.5, boundaries_epochs=(1,), factor=0.5, warmup_epochs=0)
    arm = AdamwArm(name="a", learning_rate=schedule, weight_decay=1)
    assert learning_rates(arm, 2, 2).tolist() == [0.5, 0.5, 0.25, 0.25]
    assert learning_rates(arm, 2, 2).dtype == np.float64
    assert percent(convert(arm, 4, 2, 2)) == pytest.approx(100 * (1 - 0.5**2 * 0.75**2))


@pytest.mark.parametrize(
    ("arm", "weight_decay", "per_step"),
    [
        (sgd(0.25, base=0.125, momentum=0.5), 1.0, 0.125),
        (adamw(0.5, base=0.25), 0.5, 0.125),
        (AdamArm(name="a", learning_rate=ConstantSchedule(base=0.25), l2=0.5), None, None),
        (AdamArm(name="a", learning_rate=ConstantSchedule(base=0.25)), 0.0, 0.0),
    ],
)
def test_what_a_step_takes_from_a_weight(
    arm: Any, weight_decay: float | None, per_step: float | None
) -> None:
    assert arm.equivalent_decay == weight_decay
    assert strength(arm, epoch_steps=1, epochs=1) == per_step


def test_the_strength_is_summed_over_the_steps() -> None:
    schedule = StepSchedule(base=0.5, boundaries_epochs=(1,), factor=0.5)
    assert strength(AdamwArm(name="a", learning_rate=schedule, weight_decay=2), 2, 2) == 2 * (1 + 0.5)


def percent(decay: Decay) -> float:
    if decay.shrink_percent is None:
        pytest.fail("the arm states no shrinkage")
    return decay.shrink_percent

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.settings import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    Schedule,
    StepSchedule,
    learning_rate,
    steps_per_epoch,
)

WARMUPS = st.sampled_from([0.0, 0.25, 1.0, 2.5])
FACTORS = st.floats(0.01, 0.99)
BASES = st.floats(1e-5, 10)
SCHEDULES: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(ConstantSchedule, base=BASES, warmup_epochs=WARMUPS),
    st.builds(CosineSchedule, base=BASES, warmup_epochs=WARMUPS, final_fraction=st.floats(0, 0.99)),
    st.builds(ExponentialSchedule, base=BASES, warmup_epochs=WARMUPS, factor_per_epoch=FACTORS),
    st.builds(
        StepSchedule,
        base=BASES,
        warmup_epochs=WARMUPS,
        factor=FACTORS,
        boundaries_epochs=st.sets(st.integers(1, 9), min_size=1, max_size=3).map(
            lambda ends: tuple(sorted(ends))
        ),
    ),
)
EPOCH_STEPS = st.integers(1, 20)
EPOCHS = st.integers(1, 10)


def rates(schedule: Schedule, epoch_steps: int, epochs: int) -> list[float]:
    total = epoch_steps * epochs
    steps = np.arange(total, dtype=np.float64)
    evaluated = learning_rate(schedule, steps, epoch_steps, total)
    assert evaluated.shape == steps.shape
    assert evaluated.dtype == np.float64
    return list(map(float, evaluated))


def slow_rate(schedule: Schedule, step: int, epoch_steps: int, total: int) -> float:
    """The rate of one step, by counting."""
    warmup = round(schedule.warmup_epochs * epoch_steps)
    rate = schedule.base
    if step < warmup:
        rate = schedule.base * (step + 1) / (warmup + 1)
    done = max(step - warmup, 0)
    if isinstance(schedule, CosineSchedule) and step > warmup:
        low = schedule.base * schedule.final_fraction
        rate = low + (schedule.base - low) * math.cos(math.pi * done / (total - warmup) / 2) ** 2
    if isinstance(schedule, ExponentialSchedule):
        rate *= math.exp(math.log(schedule.factor_per_epoch) * done / epoch_steps)
    if isinstance(schedule, StepSchedule):
        for boundary in schedule.boundaries_epochs:
            if step >= boundary * epoch_steps:
                rate *= schedule.factor
    return rate


@given(schedule=SCHEDULES, epoch_steps=EPOCH_STEPS, epochs=EPOCHS)
def test_every_schedule_equals_its_slow_version(schedule: Schedule, epoch_steps: int, epochs: int) -> None:
    expected = [
        slow_rate(schedule, step, epoch_steps, epoch_steps * epochs) for step in range(epoch_steps * epochs)
    ]
    # Near its end a cosine is the difference of almost equal numbers: absolute, in units of the base.
    assert rates(schedule, epoch_steps, epochs) == pytest.approx(
        expected, rel=1e-12, abs=1e-14 * schedule.base
    )


@given(schedule=SCHEDULES, epoch_steps=EPOCH_STEPS, epochs=EPOCHS)
def test_no_schedule_leaves_the_range_from_zero_to_base(
    schedule: Schedule, epoch_steps: int, epochs: int
) -> None:
    evaluated = rates(schedule, epoch_steps, epochs)
    assert max(evaluated) <= schedule.base * (1 + 1e-15)
    assert min(evaluated) > 0


@given(schedule=SCHEDULES, epoch_steps=EPOCH_STEPS, epochs=EPOCHS)
def test_schedules_rise_in_warm_up_and_never_after_it(
    schedule: Schedule, epoch_steps: int, epochs: int
) -> None:
    evaluated = np.array(rates(schedule, epoch_steps, epochs))
    warmup = round(schedule.warmup_epochs * epoch_steps)
    after = evaluated[warmup:]
    assert np.all(np.diff(after) <= 1e-15 * schedule.base)
    if not isinstance(schedule, StepSchedule):  # a boundary may fall into the warm-up
        assert np.all(np.diff(evaluated[: warmup + 1]) > 0)


def test_hand_worked_rates() -> None:
    assert rates(ConstantSchedule(base=8, warmup_epochs=1), 3, 2) == [2, 4, 6, 8, 8, 8]
    assert rates(CosineSchedule(base=4), 2, 2) == pytest.approx([4, 2 + math.sqrt(2), 2, 2 - math.sqrt(2)])
    assert rates(CosineSchedule(base=4, final_fraction=0.5), 2, 1) == pytest.approx([4, 3])
    assert rates(ExponentialSchedule(base=4, factor_per_epoch=0.25), 2, 2) == pytest.approx([4, 2, 1, 0.5])
    assert rates(StepSchedule(base=4, boundaries_epochs=(1, 2.5), factor=0.5), 2, 3) == [4, 4, 2, 2, 2, 1]
    assert rates(CosineSchedule(base=8, warmup_epochs=3), 1, 2) == [2, 4]  # the run ends within the warm-up


@pytest.mark.parametrize(
    ("examples", "batch", "steps"), [(2936, 32, 92), (64, 32, 2), (65, 32, 3), (1, 32, 1)]
)
def test_an_epoch_has_a_step_for_the_ragged_tail(examples: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(examples, batch) == steps

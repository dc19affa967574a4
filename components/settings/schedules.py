"""Learning rate as a function of the step: one formula, for NumPy here and for TensorFlow in training."""

import math
from collections.abc import Sequence
from typing import Any

from optduel.components.settings.experiment import (
    Arm,
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    Schedule,
    StepSchedule,
)


def steps_per_epoch(example_count: int, global_batch_size: int) -> int:
    """Optimizer steps of one epoch; the last one may be smaller, no example is dropped."""
    return math.ceil(example_count / global_batch_size)


def schedules_differ(arms: Sequence[Arm]) -> bool:
    """Whether arms have different schedules or warm-ups; their base rates may well differ."""
    return len({(arm.learning_rate.schedule, arm.learning_rate.warmup_epochs) for arm in arms}) > 1


def learning_rate(schedule: Schedule, step: Any, epoch_steps: int, total_steps: int, xp: Any) -> Any:
    """Learning rate of optimizer step `step`, the first being 0.

    Warm-up rises linearly and reaches `base` at the first step after it: step k of w warm-up steps has
    base * (k + 1) / (w + 1).

    Args:
        schedule: what to evaluate; its durations are in epochs.
        step: steps done before, any float array of the namespace.
        epoch_steps: steps per epoch.
        total_steps: steps of the whole run.
        xp: `numpy` or `tensorflow`: a module with `cos`, `exp`, `minimum` and `maximum`.

    Returns:
        The learning rate, in the shape and type of `step`.

    Reference:
        The cosine is equation 5 of Loshchilov and Hutter, SGDR, 2017 (arXiv 1608.03983), without restarts.
    """
    warmup_steps = round(schedule.warmup_epochs * epoch_steps)
    after = xp.maximum(step - warmup_steps, 0.0)
    match schedule:
        case ConstantSchedule():
            multiplier = after * 0.0 + 1.0
        case CosineSchedule(final_fraction=final):
            progress = xp.minimum(after / max(total_steps - warmup_steps, 1), 1.0)
            multiplier = final + (1.0 - final) * 0.5 * (1.0 + xp.cos(math.pi * progress))
        case ExponentialSchedule(factor_per_epoch=factor):
            multiplier = xp.exp(math.log(factor) * after / epoch_steps)
        case StepSchedule(boundaries_epochs=boundaries, factor=factor):
            passed = after * 0.0
            for boundary in boundaries:
                # 0 before the boundary's step and 1 from it on: steps are whole numbers.
                passed += xp.minimum(xp.maximum(step - round(boundary * epoch_steps) + 1.0, 0.0), 1.0)
            multiplier = xp.exp(math.log(factor) * passed)
    warmup = xp.minimum((step + 1.0) / (warmup_steps + 1.0), 1.0)
    return schedule.base * warmup * multiplier

"""Learning rate as a function of the step.

To add a schedule: a class with its abstract members, and its place in `Schedule`.
"""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from optduel.components.settings.section import Fraction, NonNegativeFloat, PositiveFloat, Section

Steps = NDArray[np.float64]
"""Numbers of steps, or what belongs to each: float64 of any shape."""


class BaseSchedule(Section):
    """What every schedule has.

    Attributes:
        base: the learning rate after warm-up; schedules scale it, they never exceed it.
        warmup_epochs: the rate rises linearly from 0 to `base` over this many epochs.
    """

    base: PositiveFloat
    warmup_epochs: NonNegativeFloat = 0

    @abstractmethod
    def multiplier(self, step: Steps, after: Steps, epoch_steps: int, steps_after: int) -> Steps:
        """By what `base` is multiplied, warm-up apart.

        Args:
            step: steps done before.
            after: those of them that were done after warm-up.
            epoch_steps: steps per epoch.
            steps_after: steps of the whole run after warm-up, 1 or more.

        Returns:
            0 to 1, in the shape of `step`.
        """

    @property
    @abstractmethod
    def course(self) -> str:
        """How the rate goes on from `base`, for people."""

    @property
    def text(self) -> str:
        """The whole schedule for people."""
        shape, epochs = f"{self.base:g}, {self.course}", self.warmup_epochs
        return f"{shape}; warm-up {epochs:g} epoch{'' if epochs == 1 else 's'}" if epochs else shape

    def unreached(self, epochs: int) -> list[str]:
        """What a run of so many epochs never comes to: "field = value: what is lost"."""
        if self.warmup_epochs < epochs:
            return []
        return [
            f"warmup_epochs = {self.warmup_epochs:g}: the run ends within the warm-up, after {epochs} "
            f"epoch{'' if epochs == 1 else 's'}, and never trains at the base rate"
        ]


class ConstantSchedule(BaseSchedule):
    """`base` throughout."""

    schedule: Literal["constant"] = "constant"

    def multiplier(self, step: Steps, after: Steps, epoch_steps: int, steps_after: int) -> Steps:
        """1."""
        return np.ones_like(after)

    @property
    def course(self) -> str:
        """As it says."""
        return "constant"


class CosineSchedule(BaseSchedule):
    """Half a cosine from `base` after warm-up to `final_fraction` of it, after the last step.

    Reference:
        Equation 5 of Loshchilov and Hutter, SGDR, 2017 (arXiv 1608.03983), without restarts.
    """

    schedule: Literal["cosine"] = "cosine"
    final_fraction: Fraction = 0

    def multiplier(self, step: Steps, after: Steps, epoch_steps: int, steps_after: int) -> Steps:
        """From 1 to `final_fraction`."""
        progress = np.minimum(after / steps_after, 1.0)
        return self.final_fraction + (1.0 - self.final_fraction) * 0.5 * (1.0 + np.cos(math.pi * progress))

    @property
    def course(self) -> str:
        """With the rate that it ends at."""
        return f"cosine to {self.base * self.final_fraction:g}"


class ExponentialSchedule(BaseSchedule):
    """`base` multiplied by `factor_per_epoch`, continuously, from the end of warm-up."""

    schedule: Literal["exponential"] = "exponential"
    factor_per_epoch: Annotated[float, Field(gt=0, le=1)]

    def multiplier(self, step: Steps, after: Steps, epoch_steps: int, steps_after: int) -> Steps:
        """A power of the factor."""
        return np.asarray(self.factor_per_epoch ** (after / epoch_steps))

    @property
    def course(self) -> str:
        """With the factor."""
        return f"times {self.factor_per_epoch:g} an epoch"


class StepSchedule(BaseSchedule):
    """`base` multiplied by `factor` at each of `boundaries_epochs`, counted from the start of training."""

    schedule: Literal["step"] = "step"
    boundaries_epochs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    factor: Annotated[float, Field(gt=0, lt=1)]

    @field_validator("boundaries_epochs")
    @classmethod
    def _increasing(cls, boundaries: tuple[float, ...]) -> tuple[float, ...]:
        if list(boundaries) != sorted(set(boundaries)):
            raise ValueError("must increase from one boundary to the next")
        return boundaries

    def multiplier(self, step: Steps, after: Steps, epoch_steps: int, steps_after: int) -> Steps:
        """A power of the factor: how many boundaries the step has passed."""
        boundaries = [round(boundary * epoch_steps) for boundary in self.boundaries_epochs]
        return np.asarray(self.factor ** np.searchsorted(boundaries, step, side="right"))

    @property
    def course(self) -> str:
        """With all boundaries."""
        return f"times {self.factor:g} at epoch {_listed(self.boundaries_epochs)}"

    def unreached(self, epochs: int) -> list[str]:
        """Boundaries at or beyond the end, too."""
        late = [boundary for boundary in self.boundaries_epochs if boundary >= epochs]
        lost = f"boundaries_epochs = {_listed(late)}: the run ends before, after epoch {epochs}"
        return super().unreached(epochs) + ([lost] if late else [])


Schedule = Annotated[
    ConstantSchedule | CosineSchedule | ExponentialSchedule | StepSchedule, Field(discriminator="schedule")
]


def _listed(epochs: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{epoch:g}" for epoch in epochs)


def steps_per_epoch(example_count: int, global_batch_size: int) -> int:
    """Optimizer steps of one epoch; the last one may be smaller, no example is dropped."""
    return math.ceil(example_count / global_batch_size)


def learning_rate(schedule: Schedule, step: Steps, epoch_steps: int, total_steps: int) -> Steps:
    """Learning rate of optimizer step `step`, the first being 0.

    Warm-up rises linearly and reaches `base` at the first step after it: step k of w warm-up steps has
    base * (k + 1) / (w + 1).

    Args:
        schedule: what to evaluate; its durations are in epochs.
        step: steps done before.
        epoch_steps: steps per epoch.
        total_steps: steps of the whole run.

    Returns:
        The learning rate, in the shape of `step`.
    """
    warmup_steps = round(schedule.warmup_epochs * epoch_steps)
    after = np.maximum(step - warmup_steps, 0.0)
    multiplier = schedule.multiplier(step, after, epoch_steps, max(total_steps - warmup_steps, 1))
    warmup = np.minimum((step + 1.0) / (warmup_steps + 1.0), 1.0)
    return schedule.base * warmup * multiplier

"""What a decay or L2 coefficient means in the conventions that papers and frameworks use.

Four numbers are called "weight decay": Keras' L2 coefficient, torch's L2 coefficient, the decoupled
coefficient of Keras and torch, and the paper's lambda. They differ by factors of 2 to 3000 for one run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optduel.components.settings.arms import Arm
from optduel.components.settings.schedules import learning_rate, steps_per_epoch

NEGLIGIBLE_SHRINK_PERCENT = 0.1
"""A decay that shrinks a weight by less than this over the whole run is called practically zero: those that
the paper finds best, lambda_norm 0.025 to 0.05, shrink by tens of percent (arXiv 1711.05101, appendix B)."""


@dataclass(frozen=True)
class Decay:
    """One arm's decay in every convention; None where the arm has no equivalent.

    Attributes:
        declared: the field of the experiment that states it: "l2" or "weight_decay".
        l2_keras: coefficient of sum(w^2) in the loss.
        l2_torch: coefficient of w in the gradient, torch's SGD(weight_decay=...): twice `l2_keras`.
        weight_decay: of Keras' and torch's AdamW; each step multiplies w by 1 - learning rate * weight_decay.
        paper_lambda: of arXiv 1711.05101; base learning rate * weight_decay.
        normalized_lambda: `paper_lambda` * sqrt(training examples * epochs / batch size), its appendix B.1.
        shrink_percent: by how much decay alone would shrink a decayed weight over the whole run.
        time_scale_epochs: epochs after which 1 - 1/e of a weight is forgotten, at the base learning rate
            (arXiv 2405.13698).
        note: why a convention is missing or approximate; empty when nothing is to say.
    """

    declared: str
    l2_keras: float | None
    l2_torch: float | None
    weight_decay: float | None
    paper_lambda: float | None
    normalized_lambda: float | None
    shrink_percent: float | None
    time_scale_epochs: float | None
    note: str

    @property
    def is_negligible(self) -> bool:
        """Whether a decay is stated that does practically nothing."""
        return 0 < (self.shrink_percent or 0) < NEGLIGIBLE_SHRINK_PERCENT


def convert(arm: Arm, example_count: int, global_batch_size: int, epochs: int) -> Decay:
    """States the arm's decay in every convention for a run of this length.

    For L2 under momentum m the decoupled equivalent is the asymptotic 2 * l2 / (1 - m); for L2 under Adam
    there is none (proposition 2 of arXiv 1711.05101).

    Args:
        example_count: training examples of one epoch, 1 or more.
        epochs: length of the run.
    """
    epoch_steps = steps_per_epoch(example_count, global_batch_size)
    l2 = arm.coupled_l2 if arm.decay_field == "l2" else None
    l2_torch = None if l2 is None else 2 * l2
    weight_decay = arm.equivalent_decay
    if weight_decay is None:
        return Decay(arm.decay_field, l2, l2_torch, None, None, None, None, None, arm.decay_note)
    per_step = weight_decay * learning_rates(arm, epoch_steps, epochs)
    paper_lambda = weight_decay * arm.learning_rate.base
    return Decay(
        declared=arm.decay_field,
        l2_keras=l2,
        l2_torch=l2_torch,
        weight_decay=weight_decay,
        paper_lambda=paper_lambda,
        normalized_lambda=paper_lambda * math.sqrt(example_count * epochs / global_batch_size),
        shrink_percent=float(100 * (1 - np.prod(np.maximum(1 - per_step, 0)))),
        time_scale_epochs=1 / (paper_lambda * epoch_steps) if paper_lambda else None,
        note=arm.decay_note,
    )


def strength(arm: Arm, epoch_steps: int, epochs: int) -> float | None:
    """How strong the arm's decay is: learning rate times decoupled coefficient, summed over the run's steps.

    Unlike the shrinkage it tells strong decays apart. Between two arms of one run `epoch_steps` cancels, but
    for rounding, so that their ratio is known before the images are counted.

    Returns:
        0 without decay; None where the decay has no decoupled equivalent.
    """
    if arm.equivalent_decay is None:
        return None
    return arm.equivalent_decay * float(learning_rates(arm, epoch_steps, epochs).sum())


def decay_coefficient(arm: Arm, setting: Mapping[str, float]) -> float:
    """What a weight is multiplied by and a step subtracts, before the learning rate: 2 * l2, or weight_decay.

    Args:
        arm: of which this is a setting.
        setting: values by path; those of the arm hold where it has none.
    """
    decay = setting.get(arm.decay_field, arm.numbers[arm.decay_field])
    return 2 * decay if arm.decay_field == "l2" else decay


def overshoots(arm: Arm) -> bool:
    """Whether a step at the base learning rate takes away more than a whole weight, so that weights grow."""
    return arm.decoupled_decay * arm.learning_rate.base > 1


def learning_rates(arm: Arm, epoch_steps: int, epochs: int) -> np.ndarray:
    """Learning rate of every step of the run: float64 [steps]."""
    total_steps = epoch_steps * epochs
    steps = np.arange(total_steps, dtype=np.float64)
    rates = learning_rate(arm.learning_rate, steps, epoch_steps, total_steps)
    return np.asarray(rates, dtype=np.float64)

"""What a decay or L2 coefficient means in the conventions that papers and frameworks use.

Four numbers are called "weight decay": Keras' L2 coefficient, torch's L2 coefficient, the decoupled
coefficient of Keras and torch, and the paper's lambda. They differ by factors of 2 to 3000 for one run.
"""

import math
from dataclasses import dataclass

import numpy as np

from optduel.components.settings.experiment import AdamArm, AdamwArm, Arm, SgdArm, SgdwArm
from optduel.components.settings.schedules import learning_rate, steps_per_epoch

COMPARABLE_FACTOR = 10
"""With decays further apart than this, strengths of regularization are compared rather than optimizers."""


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


def convert(arm: Arm, example_count: int, global_batch_size: int, epochs: int) -> Decay:
    """States the arm's decay in every convention for a run of this length.

    For L2 under momentum m the decoupled equivalent is the asymptotic 2 * l2 / (1 - m); for L2 under Adam
    there is none (proposition 2 of arXiv 1711.05101).

    Args:
        example_count: training examples of one epoch, 1 or more.
        epochs: length of the run.
    """
    epoch_steps = steps_per_epoch(example_count, global_batch_size)
    weight_decay = equivalent_weight_decay(arm)
    l2 = arm.l2 if isinstance(arm, SgdArm | AdamArm) else None
    declared = "weight_decay" if l2 is None else "l2"
    l2_torch = None if l2 is None else 2 * l2
    if weight_decay is None:
        note = "under Adam no decoupled decay equals L2 (arXiv 1711.05101, proposition 2)"
        return Decay(declared, l2, l2_torch, None, None, None, None, None, note)
    asymptotic = isinstance(arm, SgdArm) and arm.l2 and arm.momentum
    per_step = weight_decay * learning_rates(arm, epoch_steps, epochs)
    paper_lambda = weight_decay * arm.learning_rate.base
    return Decay(
        declared=declared,
        l2_keras=l2,
        l2_torch=l2_torch,
        weight_decay=weight_decay,
        paper_lambda=paper_lambda,
        normalized_lambda=paper_lambda * math.sqrt(example_count * epochs / global_batch_size),
        shrink_percent=float(100 * (1 - np.prod(np.maximum(1 - per_step, 0)))),
        time_scale_epochs=1 / (paper_lambda * epoch_steps) if paper_lambda else None,
        note="decoupled equivalent holds asymptotically under momentum" if asymptotic else "",
    )


def equivalent_weight_decay(arm: Arm) -> float | None:
    """The decoupled coefficient that acts like the arm's decay, or None for Adam with L2, which has none."""
    match arm:
        case AdamArm():
            return None if arm.l2 else 0.0
        case SgdArm():
            return 2 * arm.l2 / (1 - arm.momentum)
        case SgdwArm() | AdamwArm():
            return arm.weight_decay


def coefficient_per_step(arm: Arm) -> float | None:
    """The fraction of a decayed weight that one step at the base learning rate takes away; None as above."""
    weight_decay = equivalent_weight_decay(arm)
    return None if weight_decay is None else weight_decay * arm.learning_rate.base


def overshoots(arm: Arm) -> bool:
    """Whether a step at the base learning rate takes away more than a whole weight, so that weights grow."""
    return isinstance(arm, SgdwArm | AdamwArm) and arm.weight_decay * arm.learning_rate.base > 1


def learning_rates(arm: Arm, epoch_steps: int, epochs: int) -> np.ndarray:
    """Learning rate of every step of the run: float64 [steps]."""
    total_steps = epoch_steps * epochs
    steps = np.arange(total_steps, dtype=np.float64)
    rates = learning_rate(arm.learning_rate, steps, epoch_steps, total_steps, np)
    return np.asarray(rates, dtype=np.float64)

"""The optimizers: TensorFlow's fused kernels, with penalty and decay stated apart from them.

The arithmetic is that of Keras' SGD, Adam and AdamW (epsilon outside the bias correction, "epsilon hat"),
which tests hold against Keras itself and against Algorithms 1 and 2 of arXiv 1711.05101. It is not done
by Keras' classes because they walk every weight a dozen times a step where the fused kernels walk it once,
reduce gradients on their own, and forget on saving which variables are excluded from decay.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from optduel.components.settings import AdamArm, AdamwArm, Arm, SgdArm, SgdwArm, learning_rate
from optduel.components.train.model.models import parameter_kind

Update = Callable[[Any, tf.Variable, Sequence[tf.Variable], tf.Tensor, tf.Tensor, tf.Tensor], None]


class Optimizer:
    """Applies an arm to a model's variables.

    Args:
        arm: what to apply.
        variables: the model's trainable variables; slots are made in their shape.
        epoch_steps: steps per epoch, for the schedule.
        total_steps: steps of the whole run, for the schedule.

    Attributes:
        slots: moments of each variable, part of a checkpoint.
        decayed: for each variable, whether L2 or decay applies to it.
    """

    def __init__(
        self, arm: Arm, variables: Sequence[keras.Variable], epoch_steps: int, total_steps: int
    ) -> None:
        slot_count, self._update = OPTIMIZERS[arm.optimizer]
        self._arm = arm
        self._epoch_steps = epoch_steps
        self._total_steps = total_steps
        self._l2 = arm.coupled_l2
        self._weight_decay = arm.decoupled_decay
        self.variables = list(variables)
        self.decayed = [parameter_kind(variable.path) in arm.decayed for variable in variables]
        self.slots = [
            [tf.Variable(tf.zeros_like(variable.value), trainable=False) for _ in range(slot_count)]
            for variable in variables
        ]

    def learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate, float64, of the step that has `step` (float64) steps before it."""
        return learning_rate(self._arm.learning_rate, step, self._epoch_steps, self._total_steps, tf)

    def decay(self, step: tf.Tensor) -> tf.Tensor:
        """Fraction of a decayed weight that the step subtracts, before momentum; float64."""
        return self.learning_rate(step) * (self._weight_decay + 2 * self._l2)

    def penalty(self) -> tf.Tensor:
        """The L2 term of the loss, l2 * sum(w^2) over decayed variables; float64 scalar."""
        if not self._l2:
            return tf.zeros((), tf.float64)
        sums = [
            tf.cast(2 * tf.nn.l2_loss(variable.value), tf.float64)
            for variable, decayed in zip(self.variables, self.decayed, strict=True)
            if decayed
        ]
        return self._l2 * tf.add_n(sums)

    def add_penalty_gradients(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients of the whole loss from those of the cross-entropy, each in the shape of its variable."""
        if not self._l2:
            return list(gradients)
        return [
            gradient + tf.constant(2 * self._l2, gradient.dtype) * variable.value if decayed else gradient
            for gradient, variable, decayed in zip(gradients, self.variables, self.decayed, strict=True)
        ]

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        """Updates variables and slots; in a replica context, with gradients that are reduced already.

        Args:
            gradients: of the whole loss, equal on all replicas.
            step: float64, steps done before.
        """
        rate = self.learning_rate(step)

        def update_all(strategy: tf.distribute.Strategy, reduced: Sequence[tf.Tensor]) -> None:
            for variable, slots, decayed, gradient in zip(
                self.variables, self.slots, self.decayed, reduced, strict=True
            ):
                strategy.extended.update(
                    variable.value, self._update_one, args=(tuple(slots), gradient, rate, step, decayed)
                )

        tf.distribute.get_replica_context().merge_call(update_all, args=(list(gradients),))

    def _update_one(
        self,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        gradient: tf.Tensor,
        rate: tf.Tensor,
        step: tf.Tensor,
        decayed: bool,
    ) -> None:
        if decayed and self._weight_decay:
            # Before the step and from the old weights, as in both algorithms of the paper.
            variable.assign_sub(variable * tf.cast(rate * self._weight_decay, variable.dtype))
        self._update(self._arm, variable, slots, gradient, rate, step)


def _momentum(
    arm: SgdArm | SgdwArm,
    variable: tf.Variable,
    slots: Sequence[tf.Variable],
    gradient: tf.Tensor,
    rate: tf.Tensor,
    step: tf.Tensor,
) -> None:
    """Velocity = momentum * velocity - rate * gradient; variable += velocity."""
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=slots[0].handle,
        lr=tf.cast(rate, variable.dtype),
        grad=gradient,
        momentum=tf.constant(arm.momentum, variable.dtype),
        use_nesterov=arm.nesterov,
    )


def _adam(
    arm: AdamArm | AdamwArm,
    variable: tf.Variable,
    slots: Sequence[tf.Variable],
    gradient: tf.Tensor,
    rate: tf.Tensor,
    step: tf.Tensor,
) -> None:
    """Adam with bias correction in the rate: rate * sqrt(1 - beta_2^t) / (1 - beta_1^t), t = step + 1."""
    betas = [tf.constant(beta, variable.dtype) for beta in (arm.beta_1, arm.beta_2)]
    # In float32 1 - 0.999^t loses five digits at the first steps, so the correction is made in float64, from
    # the betas as rounded for the kernel, which is told that there is none left to make.
    beta_1, beta_2 = (tf.cast(beta, tf.float64) for beta in betas)
    corrected = rate * tf.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=slots[0].handle,
        v=slots[1].handle,
        beta1_power=tf.zeros((), variable.dtype),
        beta2_power=tf.zeros((), variable.dtype),
        lr=tf.cast(corrected, variable.dtype),
        beta1=betas[0],
        beta2=betas[1],
        epsilon=tf.constant(arm.epsilon, variable.dtype),
        grad=gradient,
    )


OPTIMIZERS: dict[str, tuple[int, Update]] = {
    "sgd": (1, _momentum),
    "sgdw": (1, _momentum),
    "adam": (2, _adam),
    "adamw": (2, _adam),
}
"""Number of slots and update rule, by the name in the experiment. Decay and L2 are the arm's to say."""

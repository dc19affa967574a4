"""The optimizers: TensorFlow's fused kernels, with penalty and decay stated apart from them.

The arithmetic is that of Keras' SGD, Adam and AdamW (epsilon outside the bias correction, "epsilon hat"),
which tests hold against Keras itself and against Algorithms 1 and 2 of arXiv 1711.05101. It is not done
by Keras' classes because they walk every weight a dozen times a step where the fused kernels walk it once,
reduce gradients on their own, and forget on saving which variables are excluded from decay.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optduel.components.settings import Arm, learning_rate
from optduel.components.train.model.models import parameter_kind

Numbers = Mapping[str, tf.Tensor]
"""An arm's numbers at a step, float64 scalars: "learning_rate", "coupled_l2", "decoupled_decay", and those
that its optimizer has of its own. They are inputs of the compiled step: another setting compiles nothing."""

Update = Callable[[Arm, tf.Variable, Sequence[tf.Variable], tf.Tensor, tf.Tensor, Numbers], None]


class Optimizer:
    """Applies an arm to a model's variables.

    Args:
        arm: what to apply, until `begin` names another.
        variables: the model's trainable variables; slots are made in their shape.
        epoch_steps: steps per epoch, for the schedule.
        total_steps: steps of the whole run, for the schedule.
        multipliers: for each variable, by what the learning rate is multiplied; 1 unless given.

    Attributes:
        slots: moments of each variable, part of a checkpoint.
        decayed: for each variable, whether L2 or decay applies to it.
    """

    def __init__(
        self,
        arm: Arm,
        variables: Sequence[keras.Variable],
        epoch_steps: int,
        total_steps: int,
        multipliers: Sequence[float] = (),
    ) -> None:
        slot_count, self._own, self._update = OPTIMIZERS[arm.optimizer]
        self._epoch_steps = epoch_steps
        self._total_steps = total_steps
        self._is_coupled = arm.decay_field == "l2"
        self.variables = list(variables)
        self._multipliers = list(multipliers) or [1.0] * len(self.variables)
        self.decayed = [parameter_kind(variable.path) in arm.decayed for variable in variables]
        self.slots = [
            [tf.Variable(tf.zeros_like(variable.value), trainable=False) for _ in range(slot_count)]
            for variable in variables
        ]
        self.begin(arm)

    def begin(self, arm: Arm) -> None:
        """Takes an arm that differs from the one before in numbers only, see `kind_of_step`."""
        self._arm = arm
        # The whole run's at once: what NumPy makes of a number may depend on where it stands in its array.
        steps = np.arange(self._total_steps, dtype=np.float64)
        rates = learning_rate(arm.learning_rate, steps, self._epoch_steps, self._total_steps)
        self._rates = np.asarray(rates, np.float64)

    def reset(self) -> None:
        """Empties the slots, as they are before the first step."""
        for slots in self.slots:
            for slot in slots:
                slot.assign(tf.zeros_like(slot))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of `numbers`."""
        return ("learning_rate", "coupled_l2", "decoupled_decay", *self._own)

    def numbers(self, first: int, count: int) -> np.ndarray:
        """The arm's numbers at so many steps from `first` on, float64 [count, len(names)]."""
        rates = self._rates[first : first + count]
        others = [getattr(self._arm, name) for name in self.names[1:]]
        return np.column_stack([rates, np.broadcast_to(others, (len(rates), len(others)))])

    def named(self, row: tf.Tensor) -> Numbers:
        """One row of `numbers`, by name."""
        return dict(zip(self.names, tf.unstack(row, len(self.names)), strict=True))

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step that has `step` steps before it."""
        return float(self._rates[step])

    def decay(self, step: int) -> float:
        """Fraction of a decayed weight that the step subtracts, before momentum."""
        return self.learning_rate(step) * (self._arm.decoupled_decay + 2 * self._arm.coupled_l2)

    def penalty(self, numbers: Numbers, variables: Sequence[keras.Variable]) -> tf.Tensor:
        """The L2 term of the loss, l2 * sum(w^2) over decayed variables; float64 scalar.

        Args:
            numbers: of a step.
            variables: the optimizer's, or others in their places.
        """
        if not self._is_coupled:
            return tf.zeros((), tf.float64)
        sums = [
            tf.cast(2 * tf.nn.l2_loss(variable.value), tf.float64)
            for variable, decayed in zip(variables, self.decayed, strict=True)
            if decayed
        ]
        return numbers["coupled_l2"] * tf.add_n(sums)

    def add_penalty_gradients(self, gradients: Sequence[tf.Tensor], numbers: Numbers) -> list[tf.Tensor]:
        """Gradients of the whole loss from those of the cross-entropy, each in the shape of its variable."""
        if not self._is_coupled:
            return list(gradients)
        factor = 2 * numbers["coupled_l2"]
        return [
            gradient + tf.cast(factor, gradient.dtype) * variable.value if decayed else gradient
            for gradient, variable, decayed in zip(gradients, self.variables, self.decayed, strict=True)
        ]

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, numbers: Numbers) -> None:
        """Updates variables and slots; in a replica context, with gradients that are reduced already.

        Args:
            gradients: of the whole loss, equal on all replicas.
            step: float64, steps done before.
            numbers: of this step.
        """

        def update_all(strategy: tf.distribute.Strategy, reduced: Sequence[tf.Tensor]) -> None:
            for variable, slots, decayed, multiplier, gradient in zip(
                self.variables, self.slots, self.decayed, self._multipliers, reduced, strict=True
            ):
                own = {**numbers, "learning_rate": multiplier * numbers["learning_rate"]}
                strategy.extended.update(
                    variable.value, self._update_one, args=(tuple(slots), gradient, step, own, decayed)
                )

        tf.distribute.get_replica_context().merge_call(update_all, args=(list(gradients),))

    def _update_one(
        self,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        gradient: tf.Tensor,
        step: tf.Tensor,
        numbers: Numbers,
        decayed: bool,
    ) -> None:
        if decayed and not self._is_coupled:
            # Before the step and from the old weights, as in both algorithms of the paper.
            fraction = numbers["learning_rate"] * numbers["decoupled_decay"]
            variable.assign_sub(variable * tf.cast(fraction, variable.dtype))
        self._update(self._arm, variable, slots, gradient, step, numbers)


def kind_of_step(arm: Arm) -> tuple[object, ...]:
    """What a compiled step cannot change: two arms with the same of it differ in numbers only."""
    return arm.optimizer, arm.decayed, getattr(arm, "nesterov", None)


def _momentum(
    arm: Any,
    variable: tf.Variable,
    slots: Sequence[tf.Variable],
    gradient: tf.Tensor,
    step: tf.Tensor,
    numbers: Numbers,
) -> None:
    """Velocity = momentum * velocity - rate * gradient; variable += velocity."""
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=slots[0].handle,
        lr=tf.cast(numbers["learning_rate"], variable.dtype),
        grad=gradient,
        momentum=tf.cast(numbers["momentum"], variable.dtype),
        use_nesterov=arm.nesterov,
    )


def _adam(
    arm: Any,
    variable: tf.Variable,
    slots: Sequence[tf.Variable],
    gradient: tf.Tensor,
    step: tf.Tensor,
    numbers: Numbers,
) -> None:
    """Adam with bias correction in the rate: rate * sqrt(1 - beta_2^t) / (1 - beta_1^t), t = step + 1."""
    betas = [tf.cast(numbers[name], variable.dtype) for name in ("beta_1", "beta_2")]
    # In float32 1 - 0.999^t loses five digits at the first steps, so the correction is made in float64, from
    # the betas as rounded for the kernel, which is told that there is none left to make.
    beta_1, beta_2 = (tf.cast(beta, tf.float64) for beta in betas)
    corrected = numbers["learning_rate"] * tf.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=slots[0].handle,
        v=slots[1].handle,
        beta1_power=tf.zeros((), variable.dtype),
        beta2_power=tf.zeros((), variable.dtype),
        lr=tf.cast(corrected, variable.dtype),
        beta1=betas[0],
        beta2=betas[1],
        epsilon=tf.cast(numbers["epsilon"], variable.dtype),
        grad=gradient,
    )


OPTIMIZERS: dict[str, tuple[int, tuple[str, ...], Update]] = {
    "sgd": (1, ("momentum",), _momentum),
    "sgdw": (1, ("momentum",), _momentum),
    "adam": (2, ("beta_1", "beta_2", "epsilon"), _adam),
    "adamw": (2, ("beta_1", "beta_2", "epsilon"), _adam),
}
"""Number of slots, those fields of the arm that a step takes as numbers, and update rule, by the name in the
experiment. Decay and L2 are the arm's to say."""

"""Model, optimizer and compiled steps, made once for trials that differ in numbers and seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optduel.components.train.contract.task import Task
from optduel.components.train.loop.state import named_variables
from optduel.components.train.model.averaging import MovingAverage
from optduel.components.train.model.engine import Engine
from optduel.components.train.model.layer_sets import TrainingLayers
from optduel.components.train.model.models import build_model, rate_multipliers
from optduel.components.train.model.optimizers import Optimizer, kind_of_step

_KEPT_BYTES = 1 << 28
"""Of the initial weights of earlier seeds: every setting of a tuning begins with the same few."""


class Bench:
    """What a worker trains with.

    Args:
        strategy: of the group.
        epoch_steps: steps per epoch.

    Attributes:
        model, optimizer, engine: for the trial that was laid out last.
        variables: of model and optimizer, all that a checkpoint holds, by name.
    """

    model: keras.Model
    optimizer: Optimizer
    engine: Engine
    variables: Mapping[str, Any]
    _average: MovingAverage | None

    def __init__(self, strategy: tf.distribute.Strategy, epoch_steps: int) -> None:
        self._strategy = strategy
        self._epoch_steps = epoch_steps
        self._made_for: object = None
        self._initial: dict[int, Sequence[np.ndarray]] = {}

    def lay_out(self, task: Task, precision: str) -> None:
        """Puts everything where a trial begins: weights drawn from its seed, its arm's numbers, empty slots.

        Only a trial that needs other compiled steps than the one before gets them; none is compiled
        otherwise.

        Args:
            precision: the dtype policy that the trial is trained with.
        """
        keras.config.set_dtype_policy(precision)
        made_for = (precision, kind_of_step(task.arm))
        if made_for != self._made_for:
            self._make(task)
            self._made_for, self._initial = made_for, {task.seed: self.model.get_weights()}
            return
        if task.seed not in self._initial:
            self._keep(task.seed, self._build(task).get_weights())
        self.model.set_weights(self._initial[task.seed])
        if self._average:
            self._average.average.set_weights(self._initial[task.seed])
        self.optimizer.begin(task.arm)
        self.optimizer.reset()
        self.engine.seed = task.seed

    def _make(self, task: Task) -> None:
        with self._strategy.scope():
            self.model = self._build(task)
            total_steps = self._epoch_steps * task.training.epochs
            weights = self.model.trainable_variables
            self._average = None
            if rate := task.training.moving_average:
                self._average = MovingAverage(self.model, self._build(task), rate)
            rates = rate_multipliers(task.model, [weight.path for weight in weights])
            self.optimizer = Optimizer(task.arm, weights, self._epoch_steps, total_steps, rates)
            self.engine = Engine(
                self._strategy, self.model, self.optimizer, task.seed, task.training, self._average
            )
        self.variables = named_variables(self.model, self.optimizer, self._average)

    def _build(self, task: Task) -> keras.Model:
        """The network with the weights that the trials of a seed start from, whatever their arm."""
        keras.utils.set_random_seed(task.seed)
        manifest = task.records.manifest
        layers = TrainingLayers(task.training.global_batch_size)
        return build_model(task.model, manifest.image_shape, len(manifest.classes), layers)

    def _keep(self, seed: int, weights: Sequence[np.ndarray]) -> None:
        size = sum(array.nbytes for array in weights)
        if (len(self._initial) + 1) * size > _KEPT_BYTES:
            self._initial.clear()
        self._initial[seed] = weights

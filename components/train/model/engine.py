"""The compiled part of training: many steps without returning to Python, the same code for every strategy.

Sums and counts are reduced over replicas, never means: a ragged last batch and a worker without an example
in it weigh what they are worth. They are reduced at every step and then added in float64, step after step,
so that a sum does not depend on how steps are grouped into calls, on a restart between two steps, or, but
for the order within a step, on the number of replicas.
"""

import enum
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optduel.components.settings import Training
from optduel.components.train.model.averaging import MovingAverage
from optduel.components.train.model.layers import Batch, BatchDropout, FactoredDense, kernel_gradient
from optduel.components.train.model.objective import Aim, aim_of
from optduel.components.train.model.optimizers import Optimizer

MOST_STEPS = 1024
"""Of one call. The numbers of its steps have this length whatever their count, so that none is traced
anew."""


@dataclass(frozen=True)
class Totals:
    """Sums over some steps.

    Attributes:
        cross_entropy: sum over the examples.
        correct: examples whose largest logit is the label's.
        examples: their number.
        penalty: sum over the steps of the L2 term before each.
        steps: how many steps.
    """

    cross_entropy: float = 0.0
    correct: float = 0.0
    examples: float = 0.0
    penalty: float = 0.0
    steps: float = 0.0

    def plus(self, other: "Totals") -> "Totals":
        """The sums over the steps of both."""
        return Totals(*(np.array(self.values) + other.values))

    @property
    def values(self) -> list[float]:
        """All fields, in order."""
        return [self.cross_entropy, self.correct, self.examples, self.penalty, self.steps]


class Decision(enum.IntEnum):
    """What all replicas agreed on after a step."""

    GO_ON = 0
    STOP = 1
    NOT_FINITE = 2


@dataclass(frozen=True)
class Trained:
    """What some steps gave.

    Attributes:
        totals: those passed in plus those of the steps.
        steps: how many were done; fewer than asked for unless the decision is to go on.
        gradient_norm: Euclidean norm of the gradient of the whole loss at the last step.
        decision: of the last step; with NOT_FINITE its loss, penalty or gradient is not.
        pace: mean of the workers' wishes, equal on all of them: steps for the next call.
    """

    totals: Totals
    steps: int
    gradient_norm: float
    decision: Decision
    pace: int


@dataclass(frozen=True)
class Wishes:
    """What one worker wants of all.

    Workers must do the same numbers of steps in their calls: a collective operation finds its peers by its
    place in the loop, so that loops of different lengths would wait for each other for ever.

    Attributes:
        stop: to end after this step; one wish is enough.
        pace: steps for the next call.
    """

    stop: bool
    pace: int


class Engine:
    """Runs training and validation steps of one model under one strategy.

    Args:
        strategy: the strategy in whose scope model and optimizer were made.
        model: from uint8 images to logits.
        optimizer: the arm, applied to the model's trainable variables.
        seed: of the dropout masks.
        training: what a step does to images, labels and gradients.
        average: of the model's weights; it is what is validated, where there is one.

    Attributes:
        seed: may be changed between two steps, as the optimizer's arm may: neither is compiled in.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: Optimizer,
        seed: int,
        training: Training,
        average: MovingAverage | None = None,
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._training = training
        self._average = average
        self.seed = seed

    @property
    def validated(self) -> keras.Model:
        """The model that is validated, and to be exported."""
        return self._average.average if self._average else self._model

    def train(
        self, batches: Iterator[Any], first: int, steps: int, totals: Totals, wishes: Wishes
    ) -> Trained:
        """Does optimizer steps on the next batches.

        Args:
            batches: what `optduel.components.train.batches.distribute` gives.
            first: steps done before.
            steps: how many, `MOST_STEPS` at most, equal on all workers, unless one is not finite or some
                worker asks for a stop.
            totals: to add to.
            wishes: this worker's.
        """
        numbers = np.zeros((MOST_STEPS, len(self._optimizer.names)))
        numbers[:steps] = self._optimizer.numbers(first, steps)
        inputs = tf.constant(numbers), tf.constant(self.seed, tf.int64)
        return self._run(self._train, batches, steps, totals, wishes, *inputs)

    def validate(self, batches: Iterator[Any], steps: int, totals: Totals, wishes: Wishes) -> Trained:
        """Measures the next batches with the present weights, dropout off; otherwise like `train`."""
        return self._run(self._validate, batches, steps, totals, wishes)

    def penalty(self) -> float:
        """The L2 term of the weights that are validated."""
        return float(self._penalty_now(tf.constant(self._optimizer.numbers(0, 1)[0])).numpy())

    def weight_norm(self) -> float:
        """Euclidean norm of all trainable weights."""
        return float(self._weight_norm_now().numpy())

    @staticmethod
    def _run(
        compiled: Callable[..., list[tf.Tensor]],
        batches: Iterator[Any],
        steps: int,
        totals: Totals,
        wishes: Wishes,
        *inputs: tf.Tensor,
    ) -> Trained:
        before = tf.constant(totals.values, tf.float64)
        wanted = tf.constant([wishes.stop, wishes.pace], tf.float64)
        count = tf.constant(steps, tf.int64)
        done, after, norm, decision, pace = compiled(batches, count, before, wanted, *inputs)
        return Trained(
            Totals(*after.numpy().tolist()), int(done), float(norm), Decision(int(decision)), int(pace)
        )

    # Autograph is off throughout: nothing here needs it, and it takes a second to rewrite a model's sources.

    @tf.function(autograph=False)
    def _penalty_now(self, row: tf.Tensor) -> tf.Tensor:
        return self._optimizer.penalty(self._optimizer.named(row), self.validated.trainable_variables)

    @tf.function(autograph=False)
    def _weight_norm_now(self) -> tf.Tensor:
        return _norm([variable.value for variable in self._optimizer.variables])

    @tf.function(autograph=False, reduce_retracing=True)
    def _train(
        self,
        batches: Iterator[Any],
        steps: tf.Tensor,
        totals: tf.Tensor,
        wishes: tf.Tensor,
        numbers: tf.Tensor,
        seed: tf.Tensor,
    ) -> Any:
        def inputs(done: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return wishes, numbers[done], seed

        return self._repeat(self._train_step, batches, steps, totals, inputs)

    @tf.function(autograph=False, reduce_retracing=True)
    def _validate(
        self, batches: Iterator[Any], steps: tf.Tensor, totals: tf.Tensor, wishes: tf.Tensor
    ) -> Any:
        return self._repeat(self._validation_step, batches, steps, totals, lambda done: (wishes,))

    def _repeat(
        self,
        step: Callable[..., tuple[tf.Tensor, ...]],
        batches: Iterator[Any],
        steps: tf.Tensor,
        totals: tf.Tensor,
        inputs: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    ) -> Any:
        def is_to_go_on(done: tf.Tensor, totals: tf.Tensor, norm: tf.Tensor, *agreed: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(done < steps, tf.equal(agreed[0], Decision.GO_ON))

        def do_step(done: tf.Tensor, totals: tf.Tensor, *last: tf.Tensor) -> Any:
            result = self._strategy.run(step, args=(*next(batches), *inputs(done)))
            measured, *others = (self._first(part) for part in result)
            return done + 1, totals + measured, *others

        zero = tf.zeros((), tf.float64)
        return tf.while_loop(
            is_to_go_on, do_step, [tf.zeros((), tf.int64), totals, zero, tf.constant(Decision.GO_ON), zero]
        )

    def _first(self, value: Any) -> tf.Tensor:
        """The result of one replica, where all have the same."""
        return self._strategy.experimental_local_results(value)[0]

    def _train_step(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        places: tf.Tensor,
        batch_size: tf.Tensor,
        step: tf.Tensor,
        *others: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        *drawn, wishes, row, seed = others
        batch = Batch(seed, step, places, batch_size)
        numbers = self._optimizer.named(row)
        aim = aim_of(self._training, images, labels, drawn, self._model.input.dtype)
        with (
            tf.GradientTape() as tape,
            BatchDropout.batch(batch),
            FactoredDense.products(tape) as products,
        ):
            logits = self._model(aim.images, training=True)
            losses = aim.cross_entropies(logits)
            # The mean over the global batch: dividing the local sum by the global size makes the
            # all-reduced sum of gradients exact whatever each replica's share is.
            loss = tf.reduce_sum(losses) / tf.cast(batch_size, losses.dtype)
        measured, stop, pace = _reduce_measures(losses, aim.correct(logits), wishes)
        gradients = self._reduced_gradients(tape, loss, products)
        gradients = self._optimizer.add_penalty_gradients(gradients, numbers)
        norm = _norm(gradients)
        if self._training.clip_norm:
            scale = tf.minimum(self._training.clip_norm / norm, 1.0)
            gradients = [tf.cast(scale, gradient.dtype) * gradient for gradient in gradients]
        penalty = self._optimizer.penalty(numbers, self._optimizer.variables)
        self._optimizer.apply(gradients, tf.cast(step, tf.float64), numbers)
        if self._average:
            self._average.follow(tf.cast(step, tf.float64))
        totals = tf.concat([measured, [penalty, 1.0]], axis=0)
        return totals, norm, _decision(stop, norm + tf.reduce_sum(totals)), pace

    def _reduced_gradients(
        self, tape: tf.GradientTape, loss: tf.Tensor, products: list[Any]
    ) -> list[tf.Tensor]:
        """Gradients of the summed loss of all replicas, in the order of the optimizer's variables."""
        variables = self._optimizer.variables
        factored = {id(product.kernel): product for product in products}
        reduced = [variable for variable in variables if id(variable) not in factored]
        by_value, by_output = tape.gradient(
            loss, ([variable.value for variable in reduced], [product.outputs for product in products])
        )
        gradients = {
            id(product.kernel): kernel_gradient(product, gradient)
            for product, gradient in zip(products, by_output, strict=True)
        }
        by_value = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, by_value)
        gradients |= {id(variable): gradient for variable, gradient in zip(reduced, by_value, strict=True)}
        return [gradients[id(variable)] for variable in variables]

    def _validation_step(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        places: tf.Tensor,
        batch_size: tf.Tensor,
        step: tf.Tensor,
        wishes: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        aim = Aim(images, labels, partners=None, smoothing=0)
        logits = self.validated(images, training=False)
        measured, stop, pace = _reduce_measures(aim.cross_entropies(logits), aim.correct(logits), wishes)
        totals = tf.concat([measured, [0.0, 1.0]], axis=0)
        return totals, tf.zeros((), tf.float64), _decision(stop, tf.reduce_sum(totals)), pace


def minima(strategy: tf.distribute.Strategy, values: Sequence[float]) -> np.ndarray:
    """The smallest of each value over all workers, float64 [n]; all workers give n values."""
    gathered = _gathering(strategy)(tf.constant([list(values)], tf.float64))
    smallest: np.ndarray = strategy.experimental_local_results(gathered)[0].numpy().min(axis=0)
    return smallest


@functools.lru_cache(maxsize=1)
def _gathering(strategy: tf.distribute.Strategy) -> Any:
    """Traced once, however often workers agree."""

    @tf.function(autograph=False)
    def gathered(own: tf.Tensor) -> Any:
        def gather() -> tf.Tensor:
            here = tf.identity(own)  # on the replica's device, which a captured tensor has not
            return tf.distribute.get_replica_context().all_gather(here, axis=0)

        return strategy.run(gather)

    return gathered


def is_agreed(strategy: tf.distribute.Strategy, text: str) -> bool:
    """Whether all workers call this with the same text."""
    number = zlib.crc32(text.encode())
    return np.array_equal(minima(strategy, [number, -number]), [number, -number])


def _reduce_measures(
    losses: tf.Tensor, correct: tf.Tensor, wishes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Over all replicas: cross-entropy, correct and examples (float64 [3]), wishes to stop, and mean pace."""
    sums = [tf.reduce_sum(tf.cast(values, tf.float64)) for values in (losses, correct)]
    local = tf.concat([sums, [tf.cast(tf.size(losses), tf.float64)], wishes], axis=0)
    context = tf.distribute.get_replica_context()
    over_all = context.all_reduce(tf.distribute.ReduceOp.SUM, local)
    return over_all[:3], over_all[3], over_all[4] / context.num_replicas_in_sync


def _decision(stop: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """A Decision as int32; from reduced numbers only, so that all replicas agree."""
    on_stop = tf.where(stop > 0, tf.constant(Decision.STOP), tf.constant(Decision.GO_ON))
    return tf.where(tf.math.is_finite(number), on_stop, tf.constant(Decision.NOT_FINITE))


def _norm(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Euclidean norm of all elements together; float64 scalar."""
    squares = [tf.cast(2 * tf.nn.l2_loss(tensor), tf.float64) for tensor in tensors]
    return tf.sqrt(tf.add_n(squares))

"""The compiled part of training: many steps without returning to Python, the same code for every strategy.

Sums and counts are reduced over replicas, never means: a ragged last batch and a worker without an example
in it weigh what they are worth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from components.train.dropout import Batch, BatchDropout
from components.train.optimizers import Optimizer


@dataclass(frozen=True)
class Sums:
    """What was measured over some examples: sums over them, and their number."""

    cross_entropy: float
    correct: float
    examples: float


@dataclass(frozen=True)
class Steps:
    """What was measured over some optimizer steps.

    Attributes:
        sums: over the examples of the steps.
        penalty: sum over the steps of the L2 term before each.
        steps: how many steps were done.
        gradient_norm: Euclidean norm of the gradient of the whole loss at the last step.
        first_bad_step: the first step, counted from 0, whose gradient or penalty was not finite, or None.
    """

    sums: Sums
    penalty: float
    steps: int
    gradient_norm: float
    first_bad_step: int | None


class Engine:
    """Runs training and validation steps of one model under one strategy.

    Args:
        strategy: the strategy in whose scope model and optimizer were made.
        model: from uint8 images to logits.
        optimizer: the arm, applied to the model's trainable variables.
        seed: of the dropout masks.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, model: keras.Model, optimizer: Optimizer, seed: int
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._seed = seed
        with strategy.scope():
            # Sums of this replica; float64, so that their order does not show in the history.
            self._sums = tf.Variable(
                tf.zeros(3, tf.float64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            mirrored = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
            self._penalty = tf.Variable(tf.zeros((), tf.float64), **mirrored)
            self._gradient_norm = tf.Variable(tf.zeros((), tf.float64), **mirrored)
            self._bad_step = tf.Variable(tf.constant(-1, tf.int64), **mirrored)

    def train(self, batches: Iterator[Any], steps: int) -> Steps:
        """Does `steps` optimizer steps, or fewer when one is not finite, on the next batches."""
        done = int(self._train(batches, tf.constant(steps, tf.int64)))
        sums = self._read_sums()
        bad = int(self._bad_step.numpy())
        measured = Steps(
            sums,
            float(self._penalty.numpy()),
            done,
            float(self._gradient_norm.numpy()),
            None if bad < 0 else bad,
        )
        self._penalty.assign(0.0)
        return measured

    def validate(self, batches: Iterator[Any], steps: int) -> Sums:
        """Measures the next `steps` batches with the present weights; dropout off."""
        self._validate(batches, tf.constant(steps, tf.int64))
        return self._read_sums()

    def penalty(self) -> float:
        """The L2 term of the present weights."""
        return float(self._penalty_now().numpy())

    def weight_norm(self) -> float:
        """Euclidean norm of all trainable weights."""
        return float(self._weight_norm_now().numpy())

    def _read_sums(self) -> Sums:
        cross_entropy, correct, examples = self._reduced_sums().numpy()
        self._sums.assign(tf.zeros(3, tf.float64))
        return Sums(float(cross_entropy), float(correct), float(examples))

    # Autograph is off throughout: nothing here needs it, and it takes a second to rewrite a model's sources.

    @tf.function(autograph=False)
    def _reduced_sums(self) -> tf.Tensor:
        return self._sums.read_value()

    @tf.function(autograph=False)
    def _penalty_now(self) -> tf.Tensor:
        return self._optimizer.penalty()

    @tf.function(autograph=False)
    def _weight_norm_now(self) -> tf.Tensor:
        return _norm([variable.value for variable in self._optimizer.variables])

    @tf.function(autograph=False, reduce_retracing=True)
    def _train(self, batches: Iterator[Any], steps: tf.Tensor) -> tf.Tensor:
        def is_to_go_on(done: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(done < steps, self._bad_step < 0)

        def do_step(done: tf.Tensor) -> tf.Tensor:
            self._strategy.run(self._train_step, args=next(batches))
            return done + 1

        return tf.while_loop(is_to_go_on, do_step, [tf.zeros((), tf.int64)])[0]

    @tf.function(autograph=False, reduce_retracing=True)
    def _validate(self, batches: Iterator[Any], steps: tf.Tensor) -> None:
        def do_step(done: tf.Tensor) -> tf.Tensor:
            self._strategy.run(self._validation_step, args=next(batches))
            return done + 1

        tf.while_loop(lambda done: done < steps, do_step, [tf.zeros((), tf.int64)])

    def _train_step(
        self, images: tf.Tensor, labels: tf.Tensor, places: tf.Tensor, batch_size: tf.Tensor, step: tf.Tensor
    ) -> None:
        variables = [variable.value for variable in self._optimizer.variables]
        with tf.GradientTape() as tape, BatchDropout.batch(Batch(self._seed, step, places, batch_size)):
            logits = self._model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            # The mean over the global batch: dividing the local sum by the global size makes the
            # all-reduced sum of gradients exact whatever each replica's share is.
            loss = tf.reduce_sum(losses) / tf.cast(batch_size, losses.dtype)
        gradients = tape.gradient(loss, variables)
        gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients = self._optimizer.add_penalty_gradients(gradients)
        norm = _norm(gradients)
        penalty = self._optimizer.penalty()
        self._accumulate(losses, logits, labels)
        self._penalty.assign_add(penalty)
        self._gradient_norm.assign(norm)
        # The reduced gradient is not finite as soon as any replica's loss is not, so all workers agree.
        self._bad_step.assign(tf.where(tf.math.is_finite(norm + penalty), tf.constant(-1, tf.int64), step))
        self._optimizer.apply(gradients, tf.cast(step, tf.float64))

    def _validation_step(
        self, images: tf.Tensor, labels: tf.Tensor, places: tf.Tensor, batch_size: tf.Tensor, step: tf.Tensor
    ) -> None:
        logits = self._model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        self._accumulate(losses, logits, labels)

    def _accumulate(self, losses: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor) -> None:
        correct = tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), labels)
        sums = [tf.reduce_sum(tf.cast(values, tf.float64)) for values in (losses, correct)]
        self._sums.assign_add(tf.stack([*sums, tf.cast(tf.size(labels), tf.float64)]))


def _norm(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Euclidean norm of all elements together; float64 scalar."""
    squares = [tf.cast(2 * tf.nn.l2_loss(tensor), tf.float64) for tensor in tensors]
    return tf.sqrt(tf.add_n(squares))

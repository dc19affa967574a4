"""The moving average of a model's weights, as a model of its own."""

import keras
import tensorflow as tf


class MovingAverage:
    """Follows a model's weights; statistics of normalization too, so that these belong to the weights.

    After a step the average is `rate` times itself plus 1 - `rate` times the weights. At the beginning the
    rate is less, (1 + steps) / (10 + steps), so that the first, random weights are forgotten: as
    tf.train.ExponentialMovingAverage does it.

    Args:
        model: that is trained.
        average: a model with the same variables; starts with the model's weights.
        rate: 0 to less than 1.

    Attributes:
        average: the model with the averages.
    """

    def __init__(self, model: keras.Model, average: keras.Model, rate: float) -> None:
        self.average = average
        self._rate = rate
        self._pairs = list(zip(average.variables, model.variables, strict=True))
        average.set_weights(model.get_weights())

    def follow(self, step: tf.Tensor) -> None:
        """Takes the weights after a step in; in a replica context.

        Args:
            step: float64, steps done before this one.
        """
        rate = tf.minimum(tf.constant(self._rate, tf.float64), (1 + step) / (10 + step))

        def one(average: tf.Variable, value: tf.Tensor, rate: tf.Tensor) -> None:
            average.assign_sub(tf.cast(1 - rate, average.dtype) * (average - value))

        def all_of_them(strategy: tf.distribute.Strategy, rate: tf.Tensor) -> None:
            for average, variable in self._pairs:
                strategy.extended.update(average.value, one, args=(variable.value, rate))

        tf.distribute.get_replica_context().merge_call(all_of_them, args=(rate,))

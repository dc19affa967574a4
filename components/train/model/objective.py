"""What a training step sees and aims at: augmented pixels, and labels that are mixed and smoothed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from optduel.components.augmentation import augment, mixed
from optduel.components.settings import Training


@dataclass(frozen=True)
class Aim:
    """Of the examples of a step.

    Attributes:
        images: float or uint8 [n, height, width, channels], 0 to 255.
        labels: int32 [n].
        partners: labels int32 [n] of what is mixed in, and the shares float [n] that the examples keep; None
            without mixup.
        smoothing: share of each label that is spread evenly over all classes.
    """

    images: tf.Tensor
    labels: tf.Tensor
    partners: tuple[tf.Tensor, tf.Tensor] | None
    smoothing: float

    def cross_entropies(self, logits: tf.Tensor) -> tf.Tensor:
        """Of each example, in nats, in the type of the logits [n, classes]."""
        if self.partners is None and not self.smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(self.labels, logits)
        classes = logits.shape[-1]
        targets = tf.one_hot(self.labels, classes, dtype=logits.dtype)
        if self.partners:
            labels, shares = self.partners
            partners = tf.one_hot(labels, classes, dtype=logits.dtype)
            targets = mixed(targets, partners, tf.cast(shares, logits.dtype), tf)
        targets = (1 - self.smoothing) * targets + self.smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    def correct(self, logits: tf.Tensor) -> tf.Tensor:
        """1 where the largest logit is the label's, else 0; of a mixture the share of the found label."""
        found = tf.argmax(logits, axis=1, output_type=self.labels.dtype)
        right = tf.cast(tf.equal(found, self.labels), tf.float64)
        if self.partners is None:
            return right
        labels, shares = self.partners
        return mixed(right, tf.cast(tf.equal(found, labels), tf.float64), tf.cast(shares, tf.float64), tf)


def aim_of(
    training: Training, images: tf.Tensor, labels: tf.Tensor, drawn: Sequence[tf.Tensor], dtype: Any
) -> Aim:
    """Augments and mixes what was read.

    Args:
        training: says how.
        images: uint8 [n, height, width, channels].
        labels: int32 [n].
        drawn: what follows these in a batch, see `distribute`.
        dtype: to compute in, float32 or float64.
    """
    augmentation, partners = training.augmentation, None
    if augmentation:

        def made(pixels: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
            return augment(tf.cast(pixels, dtype), tf.cast(draws, dtype), augmentation, tf)

        images = made(images, drawn[0])
        if augmentation.mixup:
            others, other_labels, draws, shares = drawn[1:]
            images = mixed(images, made(others, draws), tf.cast(shares, dtype), tf)
            partners = other_labels, shares
    return Aim(images, labels, partners, training.label_smoothing)

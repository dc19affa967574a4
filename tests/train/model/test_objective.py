"""What a step aims at, against Keras and plain arithmetic; clipping and averages against NumPy."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from optduel.components.settings import Training, validate
from optduel.components.train.model.averaging import MovingAverage
from optduel.components.train.model.objective import aim_of

CLASSES = 5
LABELS = np.array([0, 3, 4, 1], np.int32)
LOGITS = np.random.default_rng(0).normal(size=(4, CLASSES))
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 3), np.uint8)


def training(**fields: Any) -> Training:
    return validate(Training, {"epochs": 1, "global_batch_size": 4} | fields, "training")


def aim(drawn: list[Any] | None = None, **fields: Any) -> Any:
    return aim_of(training(**fields), tf.constant(IMAGES), tf.constant(LABELS), drawn or [], tf.float64)


def test_without_a_recipe_images_and_labels_are_as_read() -> None:
    plain = aim()
    np.testing.assert_array_equal(plain.images, IMAGES)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)(LABELS, LOGITS)
    np.testing.assert_allclose(plain.cross_entropies(tf.constant(LOGITS)), expected, rtol=1e-6)
    assert plain.correct(tf.constant(LOGITS)).numpy().tolist() == (LOGITS.argmax(axis=1) == LABELS).tolist()


def test_smoothed_labels_are_keras_own() -> None:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2, reduction=None)
    expected = loss(np.eye(CLASSES)[LABELS], LOGITS)
    actual = aim(label_smoothing=0.2).cross_entropies(tf.constant(LOGITS))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_mixtures_have_the_mixed_loss_and_share_what_is_right() -> None:
    partners = np.array([1, 3, 0, 2], np.int32)
    shares = np.array([0.25, 0.5, 1.0, 0.0], np.float32)
    draws = np.zeros((4, 10), np.float32)
    others = IMAGES[::-1].copy()
    drawn = [tf.constant(part) for part in (draws, others, partners, draws, shares)]
    mixture = aim(drawn, augmentation={"mixup": 0.3})
    weights = shares.astype(np.float64)
    np.testing.assert_allclose(
        mixture.images,
        weights[:, None, None, None] * IMAGES + (1 - weights)[:, None, None, None] * others,
        rtol=1e-6,
    )
    logarithms = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    own, other = (-logarithms[np.arange(4), labels] for labels in (LABELS, partners))
    np.testing.assert_allclose(
        mixture.cross_entropies(tf.constant(LOGITS)), weights * own + (1 - weights) * other, rtol=1e-6
    )
    found = LOGITS.argmax(axis=1)
    np.testing.assert_allclose(
        mixture.correct(tf.constant(LOGITS)),
        weights * (found == LABELS) + (1 - weights) * (found == partners),
    )


def model_of_one() -> keras.Model:
    pixels = keras.Input((2,))
    return keras.Model(pixels, keras.layers.Dense(1)(pixels))


@pytest.mark.parametrize("rate", [0.5, 0.99])
def test_the_average_is_that_of_tensorflow(rate: float) -> None:
    model = model_of_one()
    average = MovingAverage(model, model_of_one(), rate)
    kernel, averaged = model.weights[0], average.average.weights[0]
    np.testing.assert_array_equal(kernel, averaged)
    theirs = tf.Variable(kernel.numpy())
    chance = np.random.default_rng(0)
    for step in range(30):
        kernel.assign(chance.normal(size=kernel.shape))
        tf.distribute.get_strategy().run(lambda at=step: average.follow(tf.constant(at, tf.float64)))
        now = min(rate, (1 + step) / (10 + step))
        theirs.assign(now * theirs + (1 - now) * kernel.value)
    np.testing.assert_allclose(averaged, theirs, rtol=1e-5)

"""Fine-tuning: the file's own features, a new head, layers that stay, and rates of their own."""

import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.applications import imagenet_utils

from optduel.components.core import ExperimentError
from optduel.components.pretrained import check_start
from optduel.components.settings import AdamwArm, Model, PretrainedModel, ResnetModel, validate
from optduel.components.train.model.layer_sets import TrainingLayers
from optduel.components.train.model.layers import Batch, BatchDropout
from optduel.components.train.model.models import build_model, rate_multipliers
from optduel.components.train.model.optimizers import Optimizer

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def starting_from(model: keras.Model, folder: Path, **fields: Any) -> PretrainedModel:
    path = folder / f"{model.name}.keras"
    model.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PretrainedModel.model_validate({"start": str(path), "sha256": digest} | fields)


def randomized(model: keras.Model) -> keras.Model:
    chance = np.random.default_rng(1)
    model.set_weights([chance.uniform(0.01, 0.1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def ours() -> keras.Model:
    return randomized(build_model(ResnetModel(depth=8), (32, 32, 3), 7))


@pytest.fixture(scope="module")
def theirs() -> keras.Model:
    return randomized(
        keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=7, alpha=0.35)
    )


def features_of(built: keras.Model, images: np.ndarray) -> np.ndarray:
    head = built.get_layer("logits")
    return np.asarray(keras.Model(built.input, head.input)(images))


def test_features_are_those_of_our_model(ours: keras.Model, tmp_path: Path) -> None:
    built = build_model(starting_from(ours, tmp_path), (32, 32, 3), 4)
    assert built.output_shape == (None, 4)
    np.testing.assert_array_equal(features_of(built, IMAGES), features_of(ours, IMAGES))


def features_of_input(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(model.input, model.layers[-1].input)(images.astype(np.float32)))


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_features_are_those_of_keras_applications(mode: Any, theirs: keras.Model, tmp_path: Path) -> None:
    """With the preprocessing that Keras itself has for it."""
    built = build_model(starting_from(theirs, tmp_path, preprocessing=mode), (32, 32, 3), 4)
    body = keras.Model(theirs.input, theirs.get_layer("predictions").input)
    expected = body(imagenet_utils.preprocess_input(IMAGES.astype(np.float32), mode=mode))
    np.testing.assert_allclose(features_of(built, IMAGES), expected, rtol=1e-3, atol=1e-4)


def test_training_and_exported_layers_compute_the_same_and_load_alone(
    theirs: keras.Model, tmp_path: Path
) -> None:
    settings = starting_from(theirs, tmp_path, preprocessing="caffe", dropout=0.3)
    made_for_training = build_model(settings, (32, 32, 3), 4, TrainingLayers(8))
    plain = build_model(settings, (32, 32, 3), 4)
    plain.set_weights(made_for_training.get_weights())
    np.testing.assert_array_equal(plain(IMAGES), made_for_training(IMAGES))
    # And what was exported can be started from again, on images of another size.
    tuned = starting_from(plain, tmp_path)
    check_start(tuned, (40, 36, 3))
    again = build_model(tuned, (40, 36, 3), 5)
    assert again.output_shape == (None, 5)
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / f"{plain.name}.keras", safe_mode=True)(IMAGES), plain(IMAGES)
    )


def test_models_that_take_floating_point_and_generations_of_tuning_can_be_exported(tmp_path: Path) -> None:
    pixels = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(2)(features), name="generation0")
    images = IMAGES[:, :8, :8]
    expected = features_of_input(model, images)
    for _ in range(3):
        model = build_model(starting_from(model, tmp_path), (8, 8, 3), 4)
        model.save(tmp_path / "exported.keras")
        model = keras.saving.load_model(tmp_path / "exported.keras", safe_mode=True)
        np.testing.assert_allclose(features_of(model, images), expected, rtol=1e-5)


def test_only_the_head_is_drawn_from_the_seed(ours: keras.Model, tmp_path: Path) -> None:
    settings = starting_from(ours, tmp_path)
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(build_model(settings, (32, 32, 3), 4).get_weights())
    for one, same, other in list(zip(*drawn, strict=True))[:-2]:
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(one, other)
    heads = [weights[-2] for weights in drawn]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert not np.array_equal(heads[0], heads[2])


@pytest.mark.parametrize(("freeze", "trained"), [("body", 2), (None, None), ("first", None)])
def test_what_is_frozen_stays(
    freeze: str | None, trained: int | None, ours: keras.Model, tmp_path: Path
) -> None:
    names = [layer.name for layer in ours.layers if layer.weights]
    last = names[1] if freeze == "first" else freeze
    built = build_model(starting_from(ours, tmp_path, freeze=last), (32, 32, 3), 4, TrainingLayers(8))
    count = len(built.trainable_variables)
    everything = len(ours.trainable_variables)
    assert count == {"body": 2, None: everything, "first": everything - 3}[freeze]
    before = [weight.copy() for weight in built.get_weights()]
    built(IMAGES, training=True)
    changed = [not np.array_equal(*pair) for pair in zip(before, built.get_weights(), strict=True)]
    assert any(changed) == (freeze != "body"), "statistics of frozen normalization stay"


def test_the_old_head_cannot_be_frozen(ours: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match="model.freeze = logits: belongs to the head, which is replaced"
    ):
        build_model(starting_from(ours, tmp_path, freeze="logits"), (32, 32, 3), 4)


def test_the_head_has_its_own_rate(ours: keras.Model, tmp_path: Path) -> None:
    settings = starting_from(ours, tmp_path, head_rate=10)
    built = build_model(settings, (32, 32, 3), 4, TrainingLayers(8))
    variables = built.trainable_variables
    rates = rate_multipliers(settings, [variable.path for variable in variables])
    assert rates == [1.0] * (len(variables) - 2) + [10.0, 10.0]
    arm = validate(AdamwArm, {"name": "a", "learning_rate": {"schedule": "constant", "base": 0.01}}, "arm")
    optimizer = Optimizer(arm, variables, 1, 10, rates)
    before = [variable.numpy() for variable in variables]
    numbers = optimizer.named(tf.constant(optimizer.numbers(0, 1)[0]))
    ones = [tf.ones_like(variable.value) for variable in variables]
    tf.distribute.get_strategy().run(lambda: optimizer.apply(ones, tf.constant(0, tf.float64), numbers))
    # Adam's first step is the rate itself.
    for rate, old, variable in zip(rates, before, variables, strict=True):
        np.testing.assert_allclose(old - variable.numpy(), 0.01 * rate, rtol=1e-3)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_model_without_a_head_is_taken_whole(pooled: bool, tmp_path: Path) -> None:
    pixels = keras.Input((8, 8, 3))
    features = keras.layers.Activation("relu")(keras.layers.Conv2D(4, 3)(pixels))
    means = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(pixels, means if pooled else features, name="headless")
    built = build_model(starting_from(model, tmp_path), (8, 8, 3), 3)
    expected = keras.Model(pixels, means)(IMAGES[:, :8, :8].astype(np.float32))
    np.testing.assert_allclose(features_of(built, IMAGES[:, :8, :8]), expected, rtol=1e-5)


def test_a_model_that_ends_in_no_features_is_refused(tmp_path: Path) -> None:
    pixels = keras.Input((32, 32, 3))
    logits = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(pixels))
    odd = keras.Model(pixels, keras.layers.Softmax()(logits))
    with pytest.raises(
        ExperimentError, match="and not in a Dense layer or in features; save it without its top"
    ):
        build_model(starting_from(odd, tmp_path), (32, 32, 3), 4)


def test_a_body_of_another_size_is_refused(tmp_path: Path) -> None:
    flat = build_model(validate(Model, {"name": "tutorial_cnn"}, "model"), (32, 32, 3), 4)
    with pytest.raises(ExperimentError, match="does not fit images of 20 x 32 pixels"):
        build_model(starting_from(flat, tmp_path), (20, 32, 3), 4)


def test_dropout_of_whole_examples_does_not_depend_on_places() -> None:
    """As EfficientNet has it: a branch of an example is dropped, or kept, as a whole."""
    places = tf.constant([1, 4, 6], tf.int64)
    batch = Batch(*(tf.constant(number, tf.int64) for number in (3, 5)), places, tf.constant(8, tf.int64))
    everyone = Batch(batch.seed, batch.step, tf.range(8, dtype=tf.int64), batch.batch_size)
    masks = []
    for some in (batch, everyone):
        layer = BatchDropout(0.5, (None, 1, 1, 1))
        with BatchDropout.batch(some):
            masks.append(layer(tf.ones((len(some.places), 2, 2, 3)), training=True).numpy())
    np.testing.assert_array_equal(masks[0], masks[1][[1, 4, 6]])
    assert {mask.min() == mask.max() for mask in masks[1]} == {True}
    assert set(np.unique(masks[1])) == {0.0, 2.0}

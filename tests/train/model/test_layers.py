"""The layers made for training compute what Keras' own do, gradients included."""

import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

from optduel.components.train.model.layer_sets import KERAS_LAYERS, TrainingLayers
from optduel.components.train.model.layers import FactoredDense, kernel_gradient


@pytest.fixture(autouse=True)
def double_precision() -> object:
    """So that differences of rounding are far below any of arithmetic."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (2, 2)])
def test_pooling_before_bias_and_relu_changes_nothing(height: int, width: int) -> None:
    keras.utils.set_random_seed(3)
    pixels = keras.Input((height, width, 3))
    plain, fast = (
        keras.Model(pixels, layers.pooled_conv(5)(pixels)) for layers in (KERAS_LAYERS, TrainingLayers(4))
    )
    weights = [np.random.default_rng(1).normal(size=weight.shape) for weight in plain.get_weights()]
    images = tf.constant(np.random.default_rng(0).normal(size=(4, height, width, 3)))
    results = []
    for model in (plain, fast):
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            outputs = model(images)
            loss = tf.reduce_sum(outputs * tf.sin(tf.range(tf.size(outputs), dtype=tf.float64) + 1)[0])
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        results.append([outputs, *gradients])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("width", "units", "is_factored"), [(100, 60, True), (10, 5, False)])
def test_gradient_from_factors_is_the_gradient(width: int, units: int, is_factored: bool) -> None:
    batch_size = 7
    layer = FactoredDense(units, batch_size, activation="relu")
    inputs = tf.constant(np.random.default_rng(0).normal(size=(batch_size, width)))
    layer.build(inputs.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(inputs)))
    expected = tape.gradient(loss, layer.kernel.value)

    with tf.GradientTape() as tape, FactoredDense.products(tape) as products:
        loss = tf.reduce_sum(tf.sin(layer(inputs)))
    outputs = [product.outputs for product in products]
    by_kernel, by_outputs = tape.gradient(loss, [layer.kernel.value, outputs])
    assert len(products) == is_factored
    assert (by_kernel is None) == is_factored
    if is_factored:
        (by_kernel,) = [kernel_gradient(products[0], gradient) for gradient in by_outputs]
    np.testing.assert_allclose(by_kernel, expected, rtol=1e-12)


WITHOUT_EXAMPLES = """
import sys
import keras
import tensorflow as tf
from optduel.components.train.model.layer_sets import TrainingLayers
devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
two_replicas = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.config.set_dtype_policy(sys.argv[2])
layer = getattr(TrainingLayers(4), sys.argv[1])(*map(int, sys.argv[3:]))
layer.build((None, 8, 8, 3))

@tf.function(autograph=False)
def step(images):
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
        loss = tf.reduce_sum(outputs)
    return outputs, tape.gradient(loss, [images, *(variable.value for variable in layer.variables)])

with two_replicas.scope():
    outputs, gradients = step(tf.zeros([0, 8, 8, 3], layer.compute_dtype))
assert outputs.shape == layer.compute_output_shape((0, 8, 8, 3)), outputs.shape
assert gradients[0].shape == (0, 8, 8, 3)
assert all(float(tf.reduce_sum(tf.abs(gradient))) == 0 for gradient in gradients)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        pytest.param("mixed_bfloat16", marks=pytest.mark.exhaustive),
        pytest.param("float64", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("layer", ["conv 64", "max_pooling", "pooled_conv 64"])
def test_a_batch_without_examples_has_results_without_examples(
    layer: str, precision: str, forking_python: str
) -> None:
    """In a process of its own, which TensorFlow's own gradient of pooling would end."""
    name, *sizes = layer.split()
    command = [forking_python, "-c", WITHOUT_EXAMPLES, name, precision, *sizes]
    subprocess.run(command, check=True, timeout=120)

"""Residual networks: published sizes, Keras' own ResNet-50, one function for training and export."""

from typing import Any

import keras
import numpy as np
import pytest

from optduel.components.settings import ResnetModel
from optduel.components.train.model.layer_sets import KERAS_LAYERS, KerasLayers, TrainingLayers
from optduel.components.train.model.models import build_model


def build(
    form: Any, depth: int, classes: int, side: int = 32, layers: KerasLayers = KERAS_LAYERS
) -> keras.Model:
    return build_model(ResnetModel(form=form, depth=depth), (side, side, 3), classes, layers)


def long(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize(
    ("form", "depth", "classes", "parameters"),
    [
        ("cifar", 20, 10, 269_722),
        long("cifar", 32, 10, 464_154),
        long("cifar", 44, 10, 658_586),
        ("cifar", 56, 10, 853_018),
        long("cifar", 110, 10, 1_727_962),
        ("imagenet", 18, 1000, 11_689_512),
        long("imagenet", 34, 1000, 21_797_672),
        ("imagenet", 50, 1000, 25_557_032),
    ],
)
def test_networks_have_the_published_sizes(form: str, depth: int, classes: int, parameters: int) -> None:
    """Table 6 of the paper to two digits (0.27M to 1.7M), and to the last one what PyTorch's hubs publish."""
    weights = build(form, depth, classes).trainable_variables
    assert sum(int(np.prod(weight.shape)) for weight in weights) == parameters


@pytest.mark.parametrize(("form", "depth"), [("cifar", 8), long("imagenet", 18), long("imagenet", 50)])
@pytest.mark.parametrize("side", [32, 7])
def test_training_and_exported_layers_compute_the_same(form: str, depth: int, side: int) -> None:
    plain, made_for_training = build(form, depth, 4, side), build(form, depth, 4, side, TrainingLayers(8))
    made_for_training.set_weights(plain.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    np.testing.assert_array_equal(plain(images), made_for_training(images))


def test_a_residual_network_loads_in_safe_mode_with_keras_alone(tmp_path: object) -> None:
    path = f"{tmp_path}/model.keras"
    model = build("cifar", 8, 4)
    model.save(path)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(keras.saving.load_model(path, safe_mode=True)(images), model(images))


def test_convolutions_start_with_the_variance_of_the_paper() -> None:
    kernels = [weight for weight in build("imagenet", 18, 4).get_weights() if weight.ndim == 4]
    for kernel in kernels:
        fan_in = np.prod(kernel.shape[:3])
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)
        assert np.abs(kernel).max() > 2.5 * kernel.std(), "normal, and not truncated"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_depth_50_computes_what_keras_applications_computes() -> None:
    """Which have biases before the normalization, zero here, and another epsilon."""
    theirs = keras.applications.ResNet50(
        weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None
    )
    ours = build("imagenet", 50, 7, 64)
    chance = np.random.default_rng(0)
    names = ["conv1_{}"] + [
        f"conv{stage + 2}_block{block + 1}_{part}_{{}}"
        for stage, blocks in enumerate((3, 4, 6, 3))
        for block in range(blocks)
        for part in ((0, 1, 2, 3) if block == 0 else (1, 2, 3))
    ]

    def made(kind: type[keras.layers.Layer]) -> list[Any]:
        layers = [layer for layer in ours.layers if isinstance(layer, kind)]
        return sorted(
            layers, key=lambda layer: int(layer.name.rpartition("_")[2]) if layer.name[-1].isdigit() else 0
        )

    pairs = zip(names, made(keras.layers.Conv2D), made(keras.layers.BatchNormalization), strict=True)
    for name, convolution, normalization in pairs:
        kernel, bias = theirs.get_layer(name.format("conv")).get_weights()
        convolution.set_weights([kernel])
        assert not bias.any()
        normalization.set_weights(
            [chance.uniform(0.5, 1.5, weight.shape) for weight in normalization.get_weights()]
        )
        theirs.get_layer(name.format("bn")).set_weights(normalization.get_weights())
        theirs.get_layer(name.format("bn")).epsilon = normalization.epsilon
    theirs.get_layer("predictions").set_weights(ours.get_layer("logits").get_weights())
    images = chance.integers(0, 256, (2, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(ours(images), theirs(images / np.float32(255)), rtol=1e-3)

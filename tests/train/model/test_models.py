"""Every model of the registry: shapes, counts, normalization inside."""

import keras
import numpy as np
import pytest

from optduel.components.settings import Model, validate
from optduel.components.train.model.models import MODELS, build_model

DRAWN = [name for name in MODELS if name != "pretrained"]
"""Those that start from no file; that one has tests of its own, in `test_pretrained_body.py`."""


def build(name: str, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    return build_model(validate(Model, {"name": name}, "model"), image_shape, classes)


@pytest.mark.parametrize("name", DRAWN)
def test_model_maps_pixels_to_finite_logits(name: str) -> None:
    model = build(name, (9, 7, 3), 4)
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
    logits = np.asarray(model(images))
    assert logits.shape == (5, 4)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", DRAWN)
def test_weights_follow_from_the_seed(name: str) -> None:
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights.append(b"".join(weight.tobytes() for weight in build(name, (8, 8, 1), 3).get_weights()))
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_tutorial_network_has_the_tutorials_size() -> None:
    """With five classes; counted from the tutorial's own layers."""
    assert build("tutorial_cnn", (180, 180, 3), 5).count_params() == 16_628_293
    assert build("tutorial_cnn", (32, 32, 3), 5).count_params() == 563_781


def test_model_normalizes_by_itself() -> None:
    """Softmax regression on white pixels is the sum of its kernel: 255 became 1."""
    model = build("linear", (4, 4, 1), 2)
    white = np.full((1, 4, 4, 1), 255, np.uint8)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model(white)[0], kernel.sum(axis=0) + bias, rtol=1e-6)


def test_exported_model_loads_in_safe_mode_with_keras_alone(tmp_path: object) -> None:
    path = f"{tmp_path}/model.keras"
    model = build("cnn", (8, 8, 3), 3)
    model.save(path)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    again = keras.saving.load_model(path, safe_mode=True)
    np.testing.assert_array_equal(again(images), model(images))

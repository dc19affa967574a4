"""What augmentation does to pixels, against plain loops and Pillow, and alike in NumPy and TensorFlow."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from optduel.components.augmentation import WIDTH, augment, chance, epoch_draws, mixed
from optduel.components.settings import Augmentation

Pixels = NDArray[np.float64]


def images_of(count: int, height: int, width: int, channels: int = 3) -> Pixels:
    chance_of_all = np.random.default_rng(3)
    return chance_of_all.integers(0, 256, (count, height, width, channels)).astype(np.float64)


def changed(images: Pixels, draws: NDArray[Any], **on: Any) -> Pixels:
    result: Pixels = augment(images, draws, Augmentation.model_validate(on), np)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    return result


SIDES = st.integers(2, 9)


@given(SIDES, SIDES, st.integers(0, 4), st.booleans(), st.integers(0, 1000))
def test_flip_and_padded_crop_move_whole_pixels(
    height: int, width: int, padding: int, flip: bool, seed: int
) -> None:
    images, draws = images_of(3, height, width), epoch_draws(seed, 0, 3).astype(np.float64)
    result = changed(images, draws, flip=flip, crop_padding=padding or None)
    for image, draw, made in zip(images, draws, result, strict=True):
        framed = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
        top, left = (int(draw[place] * (2 * padding + 1)) for place in (chance.TOP, chance.LEFT))
        expected = framed[top : top + height, left : left + width]
        is_flipped = flip and draw[chance.FLIP] >= 0.5
        np.testing.assert_array_equal(made, expected[:, ::-1] if is_flipped else expected)


@given(SIDES, SIDES, st.booleans(), st.integers(0, 1000))
def test_random_resized_crop_interpolates_between_pixels(
    height: int, width: int, flip: bool, seed: int
) -> None:
    images, draws = images_of(2, height, width), epoch_draws(seed, 1, 2).astype(np.float64)
    crop = {"scale": [0.25, 0.75], "ratio": [0.5, 2.0]}
    result = changed(images, draws, flip=flip, random_resized_crop=crop)
    for image, draw, made in zip(images, draws, result, strict=True):
        area = (0.25 + 0.5 * draw[chance.AREA]) * height * width
        ratio = 0.5 * 4 ** draw[chance.SHAPE] * width / height
        part = min((area / ratio) ** 0.5, height), min((area * ratio) ** 0.5, width)
        rows, columns = (
            draw[place] * (size - extent) + (np.arange(size) + 0.5) * extent / size - 0.5
            for place, size, extent in zip((chance.TOP, chance.LEFT), (height, width), part, strict=True)
        )
        expected = image
        for axis, places in ((0, rows), (1, columns)):
            expected = np.apply_along_axis(
                lambda line, at=places: np.interp(at, np.arange(len(line)), line), axis, expected
            )
        is_flipped = flip and draw[chance.FLIP] >= 0.5
        np.testing.assert_allclose(made, expected[:, ::-1] if is_flipped else expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "column", "enhance"),
    [
        ("brightness", chance.BRIGHTNESS, ImageEnhance.Brightness),
        ("contrast", chance.CONTRAST, ImageEnhance.Contrast),
        ("saturation", chance.SATURATION, ImageEnhance.Color),
    ],
)
def test_colours_change_as_pillow_changes_them(name: str, column: int, enhance: Any) -> None:
    """Which rounds grey, mean grey and result to whole numbers."""
    images, draws = images_of(8, 6, 5), epoch_draws(0, 0, 8).astype(np.float64)
    result = changed(images, draws, **{name: 0.5})
    for image, draw, made in zip(images, draws, result, strict=True):
        factor = 0.5 + draw[column]
        expected = np.asarray(enhance(Image.fromarray(image.astype(np.uint8))).enhance(factor))
        np.testing.assert_allclose(made, expected, atol=1.5)
    assert result.min() >= 0
    assert result.max() <= 255


def test_grey_images_have_brightness_and_contrast() -> None:
    images, draws = images_of(4, 5, 6, 1), epoch_draws(0, 0, 4).astype(np.float64)
    coloured = changed(np.repeat(images, 3, axis=3), draws, brightness=0.3, contrast=0.3)
    np.testing.assert_allclose(
        changed(images, draws, brightness=0.3, contrast=0.3), coloured[..., :1], atol=1e-9
    )


@given(SIDES, SIDES, st.integers(1, 8), st.integers(0, 1000))
def test_cutout_is_a_black_square_around_a_pixel(height: int, width: int, side: int, seed: int) -> None:
    images, draws = images_of(2, height, width) + 1, epoch_draws(seed, 0, 2).astype(np.float64)
    result = changed(images, draws, cutout=side)
    for image, draw, made in zip(images, draws, result, strict=True):
        top, left = (
            int(draw[place] * size) - side // 2
            for place, size in ((chance.CUT_ROW, height), (chance.CUT_COLUMN, width))
        )
        expected = image.copy()
        expected[max(top, 0) : top + side, max(left, 0) : left + side] = 0
        np.testing.assert_array_equal(made, expected)


ALL = [
    {"flip": True, "crop_padding": 2, "cutout": 3},
    {"flip": True, "random_resized_crop": {}, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    {"contrast": 0.2},
]


@pytest.mark.parametrize("on", ALL, ids=str)
def test_tensorflow_and_numpy_make_the_same(on: dict[str, Any]) -> None:
    """And so does any part of a batch, an empty one included, with the sizes of batches unknown."""
    import tensorflow as tf

    images, draws = images_of(5, 7, 6), epoch_draws(0, 0, 5).astype(np.float64)
    setting = Augmentation.model_validate(on)
    signature = [tf.TensorSpec((None, 7, 6, 3), tf.float64), tf.TensorSpec((None, WIDTH), tf.float64)]
    compiled = tf.function(
        lambda pixels, drawn: augment(pixels, drawn, setting, tf), input_signature=signature, autograph=False
    )
    expected = augment(images, draws, setting, np)
    np.testing.assert_allclose(compiled(images, draws), expected, atol=1e-9)
    for part in (slice(0, 0), slice(1, 5, 2)):
        np.testing.assert_allclose(compiled(images[part], draws[part]), expected[part], atol=1e-9)


def test_what_is_off_changes_nothing() -> None:
    images = images_of(2, 4, 4)
    np.testing.assert_array_equal(changed(images, epoch_draws(0, 0, 2), mixup=1), images)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(0, 9))
def test_a_mixture_lies_between_its_images(seed: int, epoch: int) -> None:
    shares = epoch_draws(seed, epoch, 4)[:, 0].astype(np.float64)
    images, partners = images_of(4, 3, 3), images_of(8, 3, 3)[4:]
    result = mixed(images, partners, shares, np)
    for image, partner, share, made in zip(images, partners, shares, result, strict=True):
        np.testing.assert_allclose(made, share * image + (1 - share) * partner)

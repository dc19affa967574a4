"""What the drawn numbers do to pixels: one formula, for TensorFlow's compiled step and for NumPy.

Moves within the image are products with two matrices, one that takes rows and one that takes columns, whose
elements are the weights of bilinear interpolation: 0 and 1 where nothing is enlarged. Brightness, contrast
and saturation are linear functions of a pixel, its grey and the image's mean grey.
"""

from typing import Any

import numpy as np

from optduel.components.augmentation import chance
from optduel.components.settings import Augmentation

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601, as Pillow and TensorFlow have them."""

_WHITE = 255.0


def augment(images: Any, draws: Any, settings: Augmentation, xp: Any) -> Any:
    """Changes each image by its own draws; all but mixup.

    Args:
        images: float [n, height, width, channels], 0 to 255; n may be 0.
        draws: in the images' type, [n, chance.WIDTH], 0 to less than 1.
        settings: what is on.
        xp: `numpy` or `tensorflow`.

    Returns:
        In the shape, type and range of `images`.
    """
    _, height, width, channels = images.shape
    images = _moved(images, draws, settings, xp)
    flat = xp.reshape(images, (-1, height, width * channels))
    if settings.brightness or settings.contrast or settings.saturation:
        flat = _recoloured(flat, width, channels, draws, settings, xp)
    if settings.cutout:
        rows = _cut(draws[:, chance.CUT_ROW], settings.cutout, height, xp)
        columns = xp.repeat(_cut(draws[:, chance.CUT_COLUMN], settings.cutout, width, xp), channels, axis=1)
        flat = flat * (1 - rows[:, :, None] * columns[:, None, :])
    return xp.reshape(flat, (-1, height, width, channels))


def mixed(images: Any, partners: Any, shares: Any, xp: Any) -> Any:
    """Each image, or label, times its share plus its partner times the rest; shares are [n]."""
    own = xp.reshape(shares, (-1, *[1] * (len(images.shape) - 1)))
    return own * images + (1 - own) * partners


def _moved(images: Any, draws: Any, settings: Augmentation, xp: Any) -> Any:
    """Flip and either crop."""
    _, height, width, channels = images.shape
    is_cropped = bool(settings.crop_padding or settings.random_resized_crop)
    if not is_cropped and not settings.flip:
        return images
    rows, columns = _parts(draws, settings, height, width, xp)
    if is_cropped:
        images = xp.matmul(rows, xp.reshape(images, (-1, height, width * channels)))
    turned = xp.transpose(xp.reshape(images, (-1, height, width, channels)), (0, 2, 1, 3))
    turned = xp.matmul(columns, xp.reshape(turned, (-1, width, height * channels)))
    return xp.transpose(xp.reshape(turned, (-1, width, height, channels)), (0, 2, 1, 3))


def _parts(draws: Any, settings: Augmentation, height: int, width: int, xp: Any) -> tuple[Any, Any]:
    """The matrices that take rows [n, height, height] and columns [n, width, width]."""
    flips = xp.floor(draws[:, chance.FLIP] + 0.5) if settings.flip else draws[:, chance.FLIP] * 0
    places = draws[:, chance.TOP], draws[:, chance.LEFT]
    sizes = height, width
    if crop := settings.random_resized_crop:
        area = height * width * (crop.scale[0] + draws[:, chance.AREA] * (crop.scale[1] - crop.scale[0]))
        low, high = np.log(crop.ratio).tolist()
        ratio = xp.exp(low + draws[:, chance.SHAPE] * (high - low)) * (width / height)
        # A part that would be wider or higher than the image is cut at its edges.
        extents = xp.minimum(xp.sqrt(area / ratio), height), xp.minimum(xp.sqrt(area * ratio), width)
        starts = [place * (size - extent) for place, size, extent in zip(places, sizes, extents, strict=True)]
    else:
        padding = settings.crop_padding or 0
        extents = tuple(place * 0 + size for place, size in zip(places, sizes, strict=True))
        starts = [xp.floor(place * (2 * padding + 1)) - padding for place in places]
    is_padded = settings.random_resized_crop is None
    rows = _taken(starts[0], extents[0], flips * 0, height, is_padded, xp)
    return rows, _taken(starts[1], extents[1], flips, width, is_padded, xp)


def _taken(start: Any, extent: Any, flip: Any, size: int, is_padded: bool, xp: Any) -> Any:
    """Weights [n, size, size] of bilinear interpolation: a row for each pixel that is made.

    Args:
        start: where the part begins, in pixels, [n].
        extent: its size, in pixels, [n].
        flip: 1 where it is taken from its end, else 0, [n].
        is_padded: beyond the edge all is black; otherwise as the edge is.
    """
    pixels = np.arange(size, dtype=_dtype(start))
    made = pixels + flip[:, None] * (size - 1 - 2 * pixels)
    centres = start[:, None] + (made + 0.5) * (extent / size)[:, None] - 0.5
    if not is_padded:
        centres = xp.minimum(xp.maximum(centres, 0.0), size - 1.0)
    return xp.maximum(1 - xp.abs(centres[:, :, None] - pixels), 0.0)


def _recoloured(flat: Any, width: int, channels: int, draws: Any, settings: Augmentation, xp: Any) -> Any:
    """Brightness, then contrast, then saturation, and what is then out of range cut off."""
    height = flat.shape[1]
    bright, contrast, saturation = (
        (1 - strength + 2 * strength * draws[:, column])[:, None, None]
        for strength, column in (
            (settings.brightness, chance.BRIGHTNESS),
            (settings.contrast, chance.CONTRAST),
            (settings.saturation, chance.SATURATION),
        )
    )
    luma = np.array(_LUMA if channels == 3 else (1.0,), _dtype(draws))
    result = contrast * bright * flat
    if settings.contrast:
        weights = np.tile(luma, height * width)[:, None] / (height * width)
        mean = xp.matmul(xp.reshape(flat, (-1, height * width * channels)), weights.astype(luma.dtype))
        result = result + (1 - contrast) * bright * mean[:, :, None]
    if settings.saturation:
        pixels = xp.reshape(result, (-1, channels))
        grey = xp.matmul(pixels, np.tile(luma[:, None], channels))
        result = saturation * result + (1 - saturation) * xp.reshape(grey, (-1, height, width * channels))
    return xp.minimum(xp.maximum(result, 0.0), _WHITE)


def _cut(draws: Any, side: int, size: int, xp: Any) -> Any:
    """1 where a row, or a column, is crossed by the square around the drawn pixel, else 0: [n, size]."""
    first = (xp.floor(draws * size) - side // 2)[:, None]
    pixels = np.arange(size, dtype=_dtype(draws))
    is_late = xp.minimum(xp.maximum(pixels - first + 1, 0.0), 1.0)
    return is_late * xp.minimum(xp.maximum(first + side - pixels, 0.0), 1.0)


def _dtype(values: Any) -> Any:
    """NumPy's type of an array or a tensor."""
    return getattr(values.dtype, "as_numpy_dtype", values.dtype)

"""Lays the transparent parts of an image over white, and reduces every depth to eight bits.

A PNG file without an alpha channel may name one grey or colour that is transparent. The key is a value of the
file's own depth, 1 to 16 bits, and has to be compared there: reduced to eight bits, others look like it.
"""

import io

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

_GREYS = {"L;2": 85, "L;4": 17}
"""How much a step of a grey of two or four bits is in one of eight."""

_WHITE = 255


def depth_of(image: ImageFile) -> str:
    """Pillow's name of the pixels' layout in the file, such as "RGB;16B"; to be asked before it is loaded."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def peak_of(image: Image.Image, depth: str) -> int | None:
    """The greatest high byte among the grey or colour values of a 16-bit image; None for other depths."""
    if ";16" not in depth:
        return None
    if image.mode.startswith("I;16"):
        return int(np.asarray(image).max()) >> 8
    bands = image.split()
    return max(int(np.asarray(band).max()) for band in bands[: 1 if depth.startswith("LA") else 3])


def to_grey_or_rgb(image: Image.Image, encoded: bytes, depth: str) -> Image.Image:
    """The image in mode "L" or "RGB", itself where it is so already.

    Args:
        image: loaded.
        encoded: the file that it was loaded from.
        depth: as `depth_of` has told.
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = (values >> 8).astype(np.uint8)
        if isinstance(key, int):
            grey[values == key] = _WHITE
        return Image.fromarray(grey)
    if depth == "RGB;16B" and isinstance(key, tuple):
        return _without_key(image, encoded, key)
    if depth in _GREYS and isinstance(key, int):
        image.info["transparency"] = key * _GREYS[depth]
    if image.has_transparency_data:
        upright = image.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _without_key(image: Image.Image, encoded: bytes, key: tuple[int, ...]) -> Image.Image:
    """A 16-bit RGB image with the key's colour made white. Pillow has loaded the high bytes."""
    with PngImageFile(io.BytesIO(encoded)) as low:
        # Read as if the low byte of each value came last, the high one: so the low bytes are loaded.
        low.tile = [part._replace(args="RGB;16L") for part in low.tile]
        low.load()
        pixels = np.asarray(image).copy()
        is_key = (pixels == [value >> 8 for value in key]) & (
            np.asarray(low) == [value & 0xFF for value in key]
        )
    pixels[is_key.all(axis=-1)] = _WHITE
    return Image.fromarray(pixels)

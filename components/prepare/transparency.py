"""Lays the transparent parts of an image over white, and reduces every depth to eight bits.

A PNG file without an alpha channel may name one grey or colour that is transparent. The key is a value of the
file's own depth, 1 to 16 bits, and has to be compared there: reduced to eight bits, others look like it.
"""

import functools
import io
from collections.abc import Iterable
from typing import cast

from PIL import Image, ImageChops
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
        return _greatest(_high_and_low(image)[0])
    return max(map(_greatest, image.split()[: 1 if depth.startswith("LA") else 3]))


def to_grey_or_rgb(image: Image.Image, encoded: bytes, depth: str) -> Image.Image:
    """The image in mode "L" or "RGB", itself where it is so already.

    Args:
        image: loaded.
        encoded: the file that it was loaded from.
        depth: as `depth_of` has told.
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        grey, low = _high_and_low(image)
        if isinstance(key, int):
            grey.paste(_WHITE, mask=_where([(grey, key >> 8), (low, key & 0xFF)]))
        return grey
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
        pixels = image.copy()
        highs = ((band, value >> 8) for band, value in zip(image.split(), key, strict=True))
        lows = ((band, value & 0xFF) for band, value in zip(low.split(), key, strict=True))
        pixels.paste("white", mask=_where([*highs, *lows]))
    return pixels


def _high_and_low(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The high and the low bytes of a 16-bit grey image, of mode "L"."""
    values = image.tobytes()
    first, second = (Image.frombytes("L", image.size, values[place::2]) for place in (0, 1))
    return (first, second) if image.mode == "I;16B" else (second, first)


def _greatest(band: Image.Image) -> int:
    """The greatest value of an image of mode "L"."""
    return cast(tuple[int, int], band.getextrema())[1]


def _where(bands: Iterable[tuple[Image.Image, int]]) -> Image.Image:
    """White where every band, of mode "L", has the value that is given with it; else black."""
    masks = (band.point([_WHITE * (each == value) for each in range(256)]) for band, value in bands)
    return functools.reduce(ImageChops.darker, masks)

"""Decodes an image to what is kept of it: its bytes in the record, and what it shows."""

import io
from typing import NamedTuple, cast

from PIL import Image

from optduel.components.prepare.image import Memory, decode_resized

JPEG_QUALITY = 95
"""Pillow's upper end: above it files grow without a visible gain."""

LEAST_PIXELS = 32
"""Height and width of what is hashed of an image, which smaller records do not fill."""

_FLAT = 8
"""Grey values between darkest and brightest: images of less contrast are all alike, and get no hash."""


class RecordFormat(NamedTuple):
    """What images become.

    Attributes:
        height: of a record's image, in pixels.
        width: of it.
        channels: 1 or 3.
        encoding: "raw" or "jpeg".
    """

    height: int
    width: int
    channels: int
    encoding: str


class Extract(NamedTuple):
    """What is kept of a decoded image.

    Attributes:
        content: the bytes of the record's `image` feature, or nothing where no record is written.
        small: what is hashed of the image at the record's size, grey, uint8 [LEAST_PIXELS, LEAST_PIXELS];
            None where that is too small or flat.
        peak: the greatest high byte, 0..255, among the values of a 16-bit image; None for other depths.
        has_more: it is the first of several frames or pages.
        size: width and height, upright, of the original.
    """

    content: bytes
    small: bytes | None
    peak: int | None
    has_more: bool
    size: tuple[int, int]


def decode(encoded: bytes, wanted: RecordFormat, room: Memory, is_written: bool) -> Extract:
    """Decodes the whole image and resizes it.

    Args:
        encoded: the file.
        wanted: what it becomes.
        room: of memory, of which the image takes a share meanwhile.
        is_written: a record is made of it.

    Raises:
        UnusableImageError: it is damaged, cut off, or too large.
        OutOfMemoryError: there will never be room.
    """
    decoded = decode_resized(encoded, wanted.height, wanted.width, wanted.channels, room)
    content = encode_pixels(decoded.image, wanted.encoding) if is_written else b""
    return Extract(content, small_grey(decoded.image), decoded.peak, decoded.has_more, decoded.size)


def encode_pixels(image: Image.Image, encoding: str) -> bytes:
    """The bytes of an example's `image` feature: rows of pixels with interleaved channels, or a JPEG file."""
    if encoding == "raw":
        return image.tobytes()
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


def small_grey(image: Image.Image) -> bytes | None:
    """What is hashed of an image of mode "L" or "RGB"; None if it is too small or flat.

    Returns:
        uint8 [LEAST_PIXELS, LEAST_PIXELS].
    """
    side = min(image.size)
    if side < LEAST_PIXELS:
        return None
    grey = image.convert("L")
    if side >= 2 * LEAST_PIXELS:
        grey = grey.reduce(side // LEAST_PIXELS)  # quickly; what is left is averaged, too
    small = grey.resize((LEAST_PIXELS, LEAST_PIXELS), Image.Resampling.BOX)
    darkest, brightest = cast(tuple[int, int], small.getextrema())
    return None if brightest - darkest < _FLAT else small.tobytes()

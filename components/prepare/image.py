"""Decodes images as hostile input: a file is a complete image of a known format, or gets a reason."""

import contextlib
import io
import re
import struct
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from optduel.components.prepare.orientation import turn_upright
from optduel.components.prepare.room import Room
from optduel.components.prepare.transparency import depth_of, peak_of, to_grey_or_rgb

PIXEL_LIMIT = 64_000_000
"""Pixels of the largest image that is decoded, 192 MB as RGB; a few kilobytes can promise many more."""

ENCODED_BYTES_LIMIT = 256 * 2**20
"""Bytes of the largest encoded image that is read into memory."""

SCANS_LIMIT = 100
"""Scans of a JPEG file. Encoders write one, or some ten of a progressive file."""

SCANNED_PIXELS_LIMIT = 16 * PIXEL_LIMIT
"""Pixels times scans of a JPEG file, some seconds of work."""

_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE = 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)
"""Markers that begin no segment, beside restarts and the end."""

_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""A marker, but for restarts within a scan; a zero makes of the byte before it a part of the content."""

_PIXEL_BYTES = 4
"""What Pillow keeps a pixel of several channels in."""

_COEFFICIENT_BYTES = 2
"""A progressive JPEG file is kept whole as coefficients, one for each value."""

_READERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "WebP": WebPImageFile,
}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
)

_FORMATS_BY_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
}

# What Pillow 13 raises on damaged data, found by feeding it 800,000 mutated files of all formats.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


class UnusableImageError(Exception):
    """An image cannot become a record; the message is the reason."""


def is_image_name(name: str) -> bool:
    """Whether the name's ending is one of a supported image format."""
    return PurePath(name).suffix.lower() in _FORMATS_BY_SUFFIX


def image_suffixes() -> str:
    """The endings of image files, for messages."""
    return " ".join(_FORMATS_BY_SUFFIX)


def check_content(encoded: bytes, file_name: str | None) -> str:
    """Looks at the first bytes only.

    Args:
        encoded: the content.
        file_name: what it is called, when the name's ending promises a format.

    Returns:
        The format, a key of Pillow's readers: "JPEG", "PNG", "GIF", "BMP" or "WebP".

    Raises:
        UnusableImageError: it is empty, too long, no supported image, or not of its name's format.
    """
    if not encoded:
        raise UnusableImageError("is empty (0 bytes)")
    if len(encoded) > ENCODED_BYTES_LIMIT:
        raise UnusableImageError(f"has {len(encoded):,} bytes, the limit is {ENCODED_BYTES_LIMIT:,}")
    content = _format(encoded)
    if content is None:
        raise UnusableImageError(_describe_foreign(encoded))
    if file_name is not None:
        suffix = PurePath(file_name).suffix
        if _FORMATS_BY_SUFFIX.get(suffix.lower()) != content:
            raise UnusableImageError(f"content is {content} but the name says {suffix}: rename it")
    return content


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        image: of mode "L" or "RGB".
        peak: the greatest high byte, 0..255, among the values of a 16-bit image; None for other depths.
    """

    image: Image.Image
    peak: int | None


@contextlib.contextmanager
def decoding(encoded: bytes, room: Room) -> Iterator[Decoded]:
    """Decodes the whole image and turns it upright as its EXIF orientation says.

    Transparent parts are laid over white, 16-bit values are reduced to their high byte. JPEG files are
    decoded at their full size: at a reduced one, which the format offers, the pixels would be others.

    Args:
        encoded: the file.
        room: of memory, of which the image takes a share until the body ends.

    Raises:
        UnusableImageError: it is damaged, cut off, animated, or too large.
        OutOfMemoryError: there will never be room.
    """
    content = check_content(encoded, None)
    with contextlib.ExitStack() as stack:
        with _damage_explained():
            # The constructors parse the header; Image.open would add its own, looser limit on pixels.
            image = stack.enter_context(_READERS[content](io.BytesIO(encoded)))
            _check_header(image)
            if content == "JPEG":
                _check_work(image, encoded)
            depth = depth_of(image)
            turn = turn_upright(image)
        stack.enter_context(room.taking(_needed_bytes(image, depth, turn)))
        with _damage_explained():
            image.load()
            peak = peak_of(image, depth)
            plain = to_grey_or_rgb(image, encoded, depth)
        yield Decoded(plain if turn is None else plain.transpose(turn), peak)


def decode_resized(encoded: bytes, height: int, width: int, channels: int, room: Room) -> Image.Image:
    """Decodes and resizes, bilinear with antialiasing; the aspect ratio is not kept.

    Returns:
        An image of `height` x `width` pixels, mode "L" for one channel and "RGB" for three.

    Raises:
        UnusableImageError: as `decoding` does.
        OutOfMemoryError: as `decoding` does.
    """
    with decoding(encoded, room) as decoded:
        mode = "L" if channels == 1 else "RGB"
        image = decoded.image if decoded.image.mode == mode else decoded.image.convert(mode)
        if image.size == (width, height):
            return image.copy()
        return image.resize((width, height), Image.Resampling.BILINEAR)


@contextlib.contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UnusableImageError(f"has more than {PIXEL_LIMIT:,} pixels, the limit") from error
    except _DAMAGE as error:
        raise UnusableImageError(f"is damaged or cut off: {error}") from error


def _format(encoded: bytes) -> str | None:
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WebP"
    return next((name for signature, name in _SIGNATURES if encoded.startswith(signature)), None)


def _describe_foreign(encoded: bytes) -> str:
    start = encoded[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "content is HTML, not an image"
    return f"content is no {', '.join(_READERS)} image, it begins with {encoded[:8]!r}"


def _check_header(image: ImageFile) -> None:
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise UnusableImageError(f"has {width} x {height} pixels, the limit is {PIXEL_LIMIT:,}")
    if getattr(image, "is_animated", False):
        raise UnusableImageError("is animated: save one frame as an image")


def _check_work(image: ImageFile, encoded: bytes) -> None:
    """Refuses a JPEG file whose scans, each of which visits every pixel, would take many seconds."""
    width, height = image.size
    limit = min(SCANS_LIMIT, SCANNED_PIXELS_LIMIT // (width * height))
    # Two bytes that look like the start of a scan also occur in what editors embed, so a few are no proof.
    if encoded.count(_START_OF_SCAN) > limit and (scans := _count_scans(encoded)) > limit:
        raise UnusableImageError(f"has {scans} scans of {width} x {height} pixels, the limit is {limit}")


def _count_scans(encoded: bytes) -> int:
    """Scans of a JPEG file up to its end, by its markers. Reference: ITU-T T.81, annex B."""
    scans, place = 0, 2
    while (found := _MARKER.search(encoded, place)) is not None:
        marker = found[0][-1]
        place = found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN[1]
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(encoded[place : place + 2], "big")
    return scans


def _needed_bytes(image: ImageFile, depth: str, turn: Image.Transpose | None) -> int:
    """Memory for the pixels while the image is decoded and reduced, at most."""
    width, height = image.size
    each = _PIXEL_BYTES
    if image.mode not in ("L", "RGB") or "transparency" in image.info:
        each += 4 * _PIXEL_BYTES  # the conversion, a white ground, both together, and the result
    if "progression" in image.info:
        each += 3 * _COEFFICIENT_BYTES
    if turn is not None:
        each += _PIXEL_BYTES
    return each * width * height

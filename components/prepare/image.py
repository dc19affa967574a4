"""Decodes images as hostile input: a file is a complete image of a known format, or gets a reason."""

import io
import struct
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

PIXEL_LIMIT = 64_000_000
"""Pixels of the largest image that is decoded, 192 MB as RGB; a few kilobytes can promise many more."""

ENCODED_BYTES_LIMIT = 256 * 2**20
"""Bytes of the largest encoded image that is read into memory."""

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


def decode(encoded: bytes) -> Image.Image:
    """Decodes the whole image and turns it upright as its EXIF orientation says.

    Transparent parts are laid over white, 16-bit grey is reduced to its high byte.

    Returns:
        An image of mode "L" or "RGB".

    Raises:
        UnusableImageError: it is damaged, cut off, animated, or too large.
    """
    content = check_content(encoded, None)
    try:
        # The readers' constructors parse the header; Image.open would add its own, looser limit on pixels.
        with _READERS[content](io.BytesIO(encoded)) as image:
            _check_header(image)
            image.load()
            return _to_grey_or_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise UnusableImageError(f"has more than {PIXEL_LIMIT:,} pixels, the limit") from error
    except _DAMAGE as error:
        raise UnusableImageError(f"is damaged or cut off: {error}") from error


def decode_resized(encoded: bytes, height: int, width: int, channels: int) -> Image.Image:
    """Decodes and resizes, bilinear with antialiasing; the aspect ratio is not kept.

    Returns:
        An image of `height` x `width` pixels, mode "L" for one channel and "RGB" for three.

    Raises:
        UnusableImageError: as `decode` does.
    """
    image = decode(encoded).convert("L" if channels == 1 else "RGB")
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


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


def _to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        upright = image.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        image = Image.alpha_composite(white, upright)
        return image.convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")

"""Which images can be read, how they are told by their first bytes, and what else files among them may be."""

import os.path

import pillow_heif.options
from PIL import AvifImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif import HeifImageFile

# One thread decodes an image; the libraries would start more of their own.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pillow_heif.options.DECODE_THREADS = 1

READERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "WebP": WebPImageFile,
    "TIFF": TiffImageFile,
    "HEIC": HeifImageFile,
    "AVIF": AvifImageFile,
}
"""What opens each format: the class itself, as `Image.open` would try others, and has limits of its own."""

_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".avif": "AVIF",
}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
"""Of ISO base media files. Reference: ISO/IEC 23008-12, annex B.4; AV1 Image File Format 1.1, section 8."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

_FOREIGN = (
    (_LFS_POINTER, "is a git-lfs pointer, not the image: run `git lfs pull` where it was cloned"),
    (b"<!doctype html", "content is HTML, not an image"),
    (b"<html", "content is HTML, not an image"),
    (b"<svg", "is an SVG drawing: save it as PNG"),
    (b"<?xml", "content is XML, not an image: perhaps a server's refusal, or an SVG drawing"),
    (b"{", "content is text like JSON, not an image: perhaps a server's refusal"),
    (b"%pdf", "is a PDF document: save its pages as images"),
    (b"pk\x03\x04", "is a zip archive: unpack it"),
    (b"\x1f\x8b", "is compressed by gzip: unpack it"),
    (b"8bps", "is a Photoshop document: save it as PNG"),
    (b"\x93numpy", "is a NumPy array: save it as PNG"),
    (b"\0\0\0\x0cjp", "is a JPEG 2000 image: save it as PNG"),
    (b"\0\0\0\x0cjxl", "is a JPEG XL image: save it as PNG"),
    (b"\xff\x0a", "is a JPEG XL image: save it as PNG"),
)
"""First bytes, in lower case, of what lies among images most often, and what to say of it."""

_DICOM_PLACE = 128


def is_image_name(name: str) -> bool:
    """Whether the name's ending is one of a supported image format."""
    return promised_format(name) is not None


def image_suffixes() -> str:
    """The endings of image files, for messages."""
    return " ".join(_SUFFIXES)


def format_of(encoded: bytes) -> str | None:
    """The format by the first bytes, a key of READERS, or None."""
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WebP"
    if encoded[4:8] == b"ftyp":
        return _of_brands(encoded)
    return next((name for signature, name in _SIGNATURES if encoded.startswith(signature)), None)


def _of_brands(encoded: bytes) -> str | None:
    """HEIC or AVIF: the major brand of some files names the container only, and the compatible ones tell."""
    end = min(int.from_bytes(encoded[:4], "big"), 256)
    brands = [encoded[8:12], *(encoded[place : place + 4] for place in range(16, end, 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    return "HEIC" if brands[0] in _HEIC_BRANDS else None


def promised_format(file_name: str) -> str | None:
    """The format that a name's ending promises."""
    return _SUFFIXES.get(os.path.splitext(file_name)[1].lower())


def describe_foreign(encoded: bytes) -> str:
    """Why content of another format is no image."""
    start = encoded[:512].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    for signature, words in _FOREIGN:
        if start.startswith(signature):
            return words
    if encoded[4:8] == b"ftyp":
        return "is a video: save frames of it as images"
    if encoded[_DICOM_PLACE : _DICOM_PLACE + 4] == b"DICM":
        return "is a DICOM file: save its pixels as 8-bit PNG"
    return f"content is no {', '.join(READERS)} image, it begins with {encoded[:8]!r}"

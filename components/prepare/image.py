"""Decodes images as hostile input: a file is a complete image of a known format, or gets a reason."""

import contextlib
import io
import math
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from PIL import Image, TiffImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from pillow_heif import HeifImageFile

from optduel.components.prepare.formats import READERS, describe_foreign, format_of
from optduel.components.prepare.orientation import SIDEWAYS, turn_upright
from optduel.components.prepare.transparency import depth_of, peak_of, to_grey_or_rgb

PIXEL_LIMIT = 64_000_000
"""Pixels of the largest image that is decoded, 192 MB as RGB; a few kilobytes can promise many more."""

ENCODED_BYTES_LIMIT = 256 * 2**20
"""Bytes of the largest encoded image that is read into memory."""

SCANS_LIMIT = 100
"""Scans of a JPEG file. Encoders write one, or some ten of a progressive file."""

SCANNED_PIXELS_LIMIT = 16 * PIXEL_LIMIT
"""Pixels times scans of a JPEG file, some seconds of work."""

OVERSIZE = 2
"""JPEG files are decoded at a half, a quarter or an eighth of their size where that is still so many times
the wanted height and width. It is part of the records' fingerprint."""

_START_OF_SCAN = 0xDA
_STARTS_OF_SCANS = re.compile(rb"\xff\xda")
_END_OF_IMAGE = 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)
"""Markers that begin no segment, beside restarts and the end."""

_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""A marker, but for restarts within a scan; a zero makes of the byte before it a part of the content."""

_PIXEL_BYTES = 4
"""What Pillow keeps a pixel of several channels in."""

_WIDE_MODES = ("F", "I")
"""Pillow's modes of 32-bit values, whose range nobody knows."""

_WHOLE_FILE_READERS = (AvifImageFile, HeifImageFile, TiffImageFile)
"""They hand over whole images, not rows."""

_TILE_TAGS = (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)

_COEFFICIENT_BYTES = 3 * 2
"""A progressive JPEG file is kept whole as coefficients, one for each value of a pixel."""

# What Pillow 13 raises on damaged data, found by 800,000 mutated files, and what pillow-heif may raise.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


class Memory(Protocol):
    """What shares out memory, such as a `Room`."""

    def taking(self, needed: int) -> AbstractContextManager[None]:
        """Takes so many bytes until the body ends; waits where others have them.

        Raises:
            OutOfMemoryError: there are never so many.
        """


class UnusableImageError(Exception):
    """An image cannot become a record; the message is the reason."""


def check_content(encoded: bytes) -> str:
    """Looks at the first bytes only.

    Returns:
        The format, a key of `READERS`.

    Raises:
        UnusableImageError: it is empty, too long, or no supported image.
    """
    if not encoded:
        raise UnusableImageError("is empty (0 bytes)")
    if len(encoded) > ENCODED_BYTES_LIMIT:
        raise UnusableImageError(f"has {len(encoded):,} bytes, the limit is {ENCODED_BYTES_LIMIT:,}")
    content = format_of(encoded)
    if content is None:
        raise UnusableImageError(describe_foreign(encoded))
    return content


class _DamageExplained:
    """A context that makes refusals of what Pillow raises; a class, as generators take longer to enter."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Image.DecompressionBombError):
            raise UnusableImageError(f"has more than {PIXEL_LIMIT:,} pixels, the limit") from error
        if isinstance(error, _DAMAGE):
            raise UnusableImageError(f"is damaged or cut off: {error}") from error


_damage_explained = _DamageExplained()


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        image: of mode "L" or "RGB".
        peak: the greatest high byte, 0..255, among the values of a 16-bit image; None for other depths.
        has_more: it is the first of several frames or pages.
        size: width and height, upright, before it was resized.
    """

    image: Image.Image
    peak: int | None
    has_more: bool
    size: tuple[int, int]


class _Loaded(NamedTuple):
    """A decoded image that lies as it does in the file.

    Attributes:
        decoded: the image, and what it shows.
        turn: what makes it upright; None for nothing.
        box: what it fills of `decoded.image`, in pixels, where that was decoded at a reduced size; else None.
    """

    decoded: Decoded
    turn: Image.Transpose | None
    box: tuple[float, float, float, float] | None


@contextlib.contextmanager
def decoding(encoded: bytes, room: Memory, least: tuple[int, int] | None = None) -> Iterator[Decoded]:
    """Decodes the whole image and turns it upright as its EXIF orientation says.

    Transparent parts are laid over white, 16-bit values are reduced to their high byte. Of animations and of
    files with several pages the first is taken.

    Args:
        encoded: the file.
        room: of memory, of which the image takes a share until the body ends.
        least: width and height, upright, that it will be resized to: a JPEG file of a multiple of them may
            come at a reduced size, which takes less time and memory.

    Raises:
        UnusableImageError: it is damaged, cut off, or too large.
        OutOfMemoryError: there will never be room.
    """
    with _loading(encoded, room, least) as (decoded, turn, _):
        yield decoded if turn is None else decoded._replace(image=decoded.image.transpose(turn))


@contextlib.contextmanager
def _loading(encoded: bytes, room: Memory, least: tuple[int, int] | None) -> Iterator[_Loaded]:
    """As `decoding`, before the image is turned."""
    content = check_content(encoded)
    with _damage_explained:
        # The constructors parse the header; Image.open would add its own, looser limit on pixels.
        image = READERS[content](io.BytesIO(encoded))
    with image:
        with _damage_explained:
            _check_header(image)
            if content == "JPEG":
                _check_work(image, encoded)
            has_more = _has_more(image, content)
            depth = depth_of(image)
            turn = turn_upright(image)
            size = _turned(image.size, turn)
            coefficients = image.width * image.height if "progression" in image.info else 0
            box = _reduce(image, _turned(least, turn)) if least and isinstance(image, JpegImageFile) else None
        with room.taking(_needed_bytes(image, turn) + _COEFFICIENT_BYTES * coefficients):
            with _damage_explained:
                image.load()
                peak = peak_of(image, depth)
                plain = to_grey_or_rgb(image, encoded, depth)
            yield _Loaded(Decoded(plain, peak, has_more, size), turn, box)


def decode_resized(encoded: bytes, height: int, width: int, channels: int, room: Memory) -> Decoded:
    """Decodes and resizes, bilinear with antialiasing; the aspect ratio is not kept.

    Returns:
        With an image of `height` x `width` pixels, mode "L" for one channel and "RGB" for three.

    Raises:
        UnusableImageError: as `decoding` does.
        OutOfMemoryError: as `decoding` does.
    """
    size = (width, height)
    with _loading(encoded, room, size) as (decoded, turn, box):
        image = decoded.image
        if turn is not None and box is None:
            image, turn = image.transpose(turn), None
        mode = "L" if channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        if image.size == size:
            return decoded._replace(image=image.copy())
        image = image.resize(_turned(size, turn), Image.Resampling.BILINEAR, box)
        return decoded._replace(image=image if turn is None else image.transpose(turn))


def _turned(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Width and height of an image after a turn, or before one."""
    return size[::-1] if turn in SIDEWAYS else size


def _reduce(image: JpegImageFile, least: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Has an image decoded at a reduced size, if it is large enough.

    The sum of a block's lowest frequencies is the block at a smaller size, which the format's decoders make
    use of. The last row and column may reach beyond the image.

    Args:
        least: width and height that it will be resized to.

    Returns:
        What the image fills of the reduced one.
    """
    wanted = (OVERSIZE * least[0], OVERSIZE * least[1])
    if min(image.width // wanted[0], image.height // wanted[1]) < 2:
        return None
    drafted = image.draft(None, wanted)
    return drafted and drafted[1]


def _check_header(image: ImageFile) -> None:
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise UnusableImageError(f"has {width} x {height} pixels, the limit is {PIXEL_LIMIT:,}")
    if image.mode in _WIDE_MODES:
        raise UnusableImageError("has values of 32 bits: save it with 8 or 16 bits")
    if isinstance(image, TiffImageFile):
        tile = [image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
        if math.prod(tile) > PIXEL_LIMIT:
            raise UnusableImageError(
                f"has tiles of {tile[0]} x {tile[1]} pixels, the limit is {PIXEL_LIMIT:,}"
            )


def _has_more(image: ImageFile, content: str) -> bool:
    """Whether frames or pages follow the first; looks at the second of a TIFF file, which has no count."""
    if content != "TIFF":
        return bool(getattr(image, "is_animated", False))
    try:
        image.seek(1)
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True


def _check_work(image: ImageFile, encoded: bytes) -> None:
    """Refuses a JPEG file whose scans, each of which visits every pixel, would take many seconds."""
    width, height = image.size
    limit = min(SCANS_LIMIT, SCANNED_PIXELS_LIMIT // (width * height))
    # Two bytes that look like the start of a scan also occur in what editors embed, so a few are no proof.
    # Regular expressions find them three times as fast as `bytes.count`.
    if (
        sum(1 for _ in _STARTS_OF_SCANS.finditer(encoded)) > limit
        and (scans := _count_scans(encoded)) > limit
    ):
        raise UnusableImageError(f"has {scans} scans of {width} x {height} pixels, the limit is {limit}")


def _count_scans(encoded: bytes) -> int:
    """Scans of a JPEG file up to its end, by its markers. Reference: ITU-T T.81, annex B."""
    scans, place = 0, 2
    while (found := _MARKER.search(encoded, place)) is not None:
        marker = found[0][-1]
        place = found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(encoded[place : place + 2], "big")
    return scans


def _needed_bytes(image: ImageFile, turn: Image.Transpose | None) -> int:
    """Memory for the pixels while the image is decoded and reduced, at most."""
    width, height = image.size
    each = _PIXEL_BYTES
    if isinstance(image, _WHOLE_FILE_READERS):
        each += 2 * _PIXEL_BYTES  # what their libraries decode into, and a copy of it
    if image.mode not in ("L", "RGB") or "transparency" in image.info:
        each += 4 * _PIXEL_BYTES  # the conversion, a white ground, both together, and the result
    if turn is not None:
        each += _PIXEL_BYTES
    return each * width * height

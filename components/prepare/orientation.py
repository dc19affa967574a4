"""Which way up an image was taken: the orientation of its EXIF block, and nothing else of it.

Pillow reads the whole block and writes it anew when it turns an image; one odd tag, in which cameras and
editors are rich, makes that fail. Here no content of a block is an error: what is not understood means
upright.
"""

import re
import struct

from PIL import Image

_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""The types of TIFF that hold integers, and how `struct` reads them."""

_ENTRY_BYTES = 12

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))
"""The turns that exchange width and height."""

_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def turn_upright(image: Image.Image) -> Image.Transpose | None:
    """What has to be done to a decoded image so that it stands upright; None for nothing.

    The orientation is that of the EXIF block. Where it has none, that of the XMP text counts.

    Reference: CIPA DC-008-2019 (EXIF 2.32), section 4.6.4 A, and TIFF 6.0, section 2.
    """
    orientation = _of_exif(_exif_of(image))
    if orientation is None:
        orientation = _of_xmp(image)
    return _TURNS.get(orientation or 1)


def _exif_of(image: Image.Image) -> bytes:
    block = image.info.get("exif")
    if block is None and isinstance(raw := image.info.get("Raw profile type exif"), str):
        # ImageMagick's way to keep it in a PNG file: a name, a length, then hexadecimal lines.
        block = _from_hexadecimal("".join(raw.split("\n")[3:]))
    return block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else b""


def _from_hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _of_exif(block: bytes) -> int | None:
    """The orientation in a TIFF structure: byte order, the place of a table, and its entries."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}L", block, 4)
    if start + 2 > len(block):
        return None
    (count,) = struct.unpack_from(f"{order}H", block, start)
    found = None
    for place in range(start + 2, start + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
        if place + _ENTRY_BYTES > len(block):
            break
        tag, kind, values = struct.unpack_from(f"{order}HHL", block, place)
        if tag == _ORIENTATION and kind in _INTEGERS and values == 1:
            (found,) = struct.unpack_from(f"{order}{_INTEGERS[kind]}", block, place + 8)
    return found


def _of_xmp(image: Image.Image) -> int | None:
    text = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    content = text.encode(errors="replace") if isinstance(text, str) else text
    match = _XMP.search(content) if isinstance(content, bytes) else None
    return int(match[1]) if match else None

"""HEIC files stand upright by their own transformations, once; the EXIF block beside them says the same."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from optduel.components.prepare.image import decode_resized, decoding
from optduel.components.prepare.room import Room

ROOM = Room(2**30)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PATCHES = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SMOOTH = Image.fromarray(PATCHES).resize((64, 48), Image.Resampling.BILINEAR)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(abs(np.asarray(one.convert("RGB"), float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_file_is_turned_once(orientation: int) -> None:
    written = pillow_heif.from_pillow(SMOOTH)
    written.info["exif"] = exif(orientation).tobytes()
    file = io.BytesIO()
    written.save(file)  # as cameras do, with the transformation and with the EXIF block
    assert b"Exif" in file.getvalue()
    assert (b"irot" in file.getvalue() or b"imir" in file.getvalue()) == (orientation > 1)
    upright = SMOOTH.transpose(TURNS[orientation]) if orientation > 1 else SMOOTH
    with decoding(file.getvalue(), ROOM) as decoded:
        assert decoded.size == upright.size
        assert difference(decoded.image, upright) < 6
    resized = decode_resized(file.getvalue(), 24, 24, 3, ROOM).image
    assert difference(resized, upright.resize((24, 24), Image.Resampling.BILINEAR)) < 6


def test_the_exif_block_alone_does_not_turn_a_heic_file() -> None:
    """The format's own transformations count, and there are none. Reference: ISO/IEC 23008-12, 6.5.10."""
    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    SMOOTH.save(file, "HEIF", exif=exif(6))
    assert b"irot" not in file.getvalue()
    with decoding(file.getvalue(), ROOM) as decoded:
        assert difference(decoded.image, SMOOTH) < 6

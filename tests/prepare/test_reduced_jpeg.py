"""Large JPEG files are decoded at a reduced size, by a rule that is part of the records' identity."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin

from optduel.components.core import OutOfMemoryError
from optduel.components.prepare import identity, image
from optduel.components.prepare.image import UnusableImageError, decode_resized, decoding
from optduel.components.prepare.prepare import prepare_source
from optduel.components.prepare.room import Room
from optduel.components.settings import Data

Encode = Callable[..., bytes]
Settings = Callable[..., Data]

ROOM = Room(2**30)
PHOTOS = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))  # of 640 x 427 pixels

# Of 255, in any channel, on these photos: at most 0.53 and 8 were seen.
MEAN_BOUND = 0.6
LARGEST_BOUND = 10


def jpeg(picture: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, **options)
    return file.getvalue()


def whole(encoded: bytes, height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Pixels of the image decoded at its full size."""
    with monkeypatch.context() as patch:
        patch.setattr(image, "OVERSIZE", 10_000)
        return np.asarray(decode_resized(encoded, height, width, 3, ROOM).image, int)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 48), (64, 64), (100, 100), (60, 40), (26, 160)])
@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.stem)
def test_the_pixels_of_photos_stay_near_those_of_full_decoding(
    photo: Path, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = photo.read_bytes()
    reduced = np.asarray(decode_resized(encoded, height, width, 3, ROOM).image, int)
    difference = abs(reduced - whole(encoded, height, width, monkeypatch))
    assert 0 < difference.max() <= LARGEST_BOUND
    assert difference.mean() <= MEAN_BOUND


@given(st.integers(16, 700), st.integers(16, 700), st.integers(4, 80), st.integers(4, 80), st.integers(1, 8))
@budget(max_examples=60)
def test_the_reduced_image_is_twice_the_record_or_whole(
    width: int, height: int, wanted_width: int, wanted_height: int, orientation: int
) -> None:
    encoded = jpeg(Image.new("RGB", (width, height)), orientation)
    upright = (height, width) if orientation > 4 else (width, height)
    with decoding(encoded, ROOM, (wanted_width, wanted_height)) as decoded:
        times = min(upright[0] // (2 * wanted_width), upright[1] // (2 * wanted_height))
        scale = max(scale for scale in (1, 2, 4, 8) if scale <= max(1, times))
        assert decoded.size == upright
        assert decoded.image.size == tuple(-(-side // scale) for side in upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_image_is_turned_as_the_whole_one_is(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(PHOTOS[0]) as photo:
        encoded = jpeg(photo.resize((411, 277)), orientation, quality=95)  # 411 and 277 are no multiples
    reduced = np.asarray(decode_resized(encoded, 40, 30, 3, ROOM).image, int)
    assert reduced.shape == (40, 30, 3)
    assert abs(reduced - whole(encoded, 40, 30, monkeypatch)).mean() <= 1


def test_a_photo_of_48_megapixels_takes_the_memory_of_a_small_one(encode: Encode) -> None:
    encoded = jpeg(Image.new("RGB", (8000, 6000), "teal"))
    small = decode_resized(encoded, 224, 224, 3, Room(4 * 1000 * 750)).image
    assert np.ptp(np.asarray(small), axis=(0, 1)).max() == 0
    with pytest.raises(OutOfMemoryError):
        decode_resized(encoded, 224, 224, 3, Room(4 * 1000 * 750 - 1))


def test_a_cut_off_file_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = PHOTOS[0].read_bytes()
    with pytest.raises(UnusableImageError, match="is damaged or cut off"):
        decode_resized(encoded[: len(encoded) // 2], 32, 32, 3, ROOM)


def test_the_rule_is_part_of_the_fingerprint_of_jpeg_files_alone(
    memory_source: Any, settings: Settings, encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in range(12)]
    fingerprints: dict[str, list[str]] = {"JPEG": [], "PNG": []}
    for oversize in (2, 3):
        monkeypatch.setattr(identity, "OVERSIZE", oversize)
        for kind, found in fingerprints.items():
            images = [
                (str(number), number % 3, encode(one, kind), False) for number, one in enumerate(pictures)
            ]
            records = prepare_source(memory_source(images), settings(), tmp_path, threads=1)
            found.append(records.manifest.fingerprint)
    assert len(set(fingerprints["JPEG"])) == 2
    assert len(set(fingerprints["PNG"])) == 1


def test_pillow_reduces_as_the_rule_says() -> None:
    """Records would change without a new fingerprint if a later Pillow reduced by another rule."""
    with JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg(Image.new("RGB", (801, 641))))) as opened:
        assert opened.draft(None, (200, 160)) == ("RGB", (0, 0, 200.25, 160.25))
        assert opened.size == (201, 161)

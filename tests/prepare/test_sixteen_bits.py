"""Images of 16 bits: the high byte is kept, and data of fewer bits is named before it is black."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.core import DataError
from optduel.components.prepare.prepare import prepare_source
from optduel.components.records import Records
from optduel.components.settings import Data

Settings = Callable[..., Data]
ReadSplit = Callable[[Records, str], tuple[np.ndarray, np.ndarray]]


def png(values: np.ndarray) -> bytes:
    """A PNG file of uint16 [height, width, channels]: grey, grey and alpha, RGB, or RGBA."""
    height, width, channels = values.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def images_up_to(top: int, channels: int) -> list[tuple[str, int, bytes, bool]]:
    """Twelve images of three classes whose greatest value is `top`; an alpha channel is opaque."""
    random = np.random.default_rng(0)
    images = []
    for number in range(12):
        values = random.integers(0, top // 3, (12, 16, channels), dtype=np.uint16)
        values[0, 0] = top if number == 7 else top // 3
        if channels in (2, 4):
            values[:, :, -1] = 65535
        images.append((f"scan-{number}", number % 3, png(values), False))
    return images


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("top", "bits"), [(255, 8), (4095, 12), (16383, 14), (32767, 15)])
def test_values_of_fewer_bits_are_named_with_the_remedy(
    memory_source: Any, settings: Settings, tmp_path: Path, channels: int, top: int, bits: int
) -> None:
    source = memory_source(images_up_to(top, channels))
    with pytest.raises(DataError) as caught:
        prepare_source(source, settings(skip_corrupt=True, image_size=(12, 16)), tmp_path, threads=2)
    brightest = "scan-0" if bits == 8 else "scan-7"
    assert str(caught.value) == (
        f"images in memory: 12 image(s) of 16 bits hold values of {bits} bits at most (in {brightest}); "
        f"multiply them by {2 ** (16 - bits)}, so that white is 65535, or save them with 8 bits"
    )
    assert not list(tmp_path.rglob("*.tfrecord"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_values_of_16_bits_keep_their_high_byte(
    memory_source: Any, settings: Settings, read_split: ReadSplit, tmp_path: Path, channels: int
) -> None:
    images = images_up_to(65535, channels)
    data = settings(image_size=(12, 16), channels=1 if channels < 3 else 3)
    records = prepare_source(memory_source(images), data, tmp_path, threads=2)
    found = {image.tobytes() for split in records.manifest.splits for image in read_split(records, split)[0]}
    colours = (channels + 1) // 2 * 2 - 1

    def high_bytes(encoded: bytes) -> bytes:
        stored = zlib.decompress(encoded[41 : encoded.index(b"IEND") - 8])
        rows = np.frombuffer(stored, np.uint8).reshape(12, -1)[:, 1:].reshape(12, 16, channels, 2)
        return rows[:, :, :colours, 0].tobytes()

    assert found == {high_bytes(encoded) for _, _, encoded, _ in images}


def test_eight_bit_images_may_be_dark(memory_source: Any, settings: Settings, tmp_path: Path) -> None:
    images = []
    for number in range(12):
        file = io.BytesIO()
        Image.new("L", (16, 12), number).save(file, "PNG")
        images.append((f"{number}", number % 3, file.getvalue(), False))
    prepare_source(memory_source(images), settings(), tmp_path, threads=2)

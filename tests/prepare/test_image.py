import contextlib
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from optduel.components.prepare.image import (
    ENCODED_BYTES_LIMIT,
    UnusableImageError,
    check_content,
    decode,
    decode_resized,
)

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

PATCHES = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SMOOTH = Image.fromarray(PATCHES).resize((40, 30), Image.Resampling.BILINEAR)


def encoded_as(image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image = SMOOTH.quantize(64) if image_format == "GIF" else SMOOTH
    image.save(file, image_format, **options)
    return file.getvalue()


EVERY_FORMAT = {
    "JPEG": encoded_as("JPEG"),
    "progressive JPEG": encoded_as("JPEG", progressive=True),
    "PNG": encoded_as("PNG"),
    "GIF": encoded_as("GIF"),
    "BMP": encoded_as("BMP"),
    "WebP": encoded_as("WEBP"),
}


# --- what is accepted -------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "BMP"])
def test_lossless_formats_keep_every_pixel(picture: Picture, encode: Encode, image_format: str) -> None:
    for mode in ("RGB", "L"):
        image = picture(1, mode=mode)
        decoded = decode(encode(image, image_format))
        assert decoded.mode == mode
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(image))


@pytest.mark.parametrize("encoded", EVERY_FORMAT.values(), ids=EVERY_FORMAT)
def test_every_format_shows_the_picture(encoded: bytes) -> None:
    difference = np.asarray(decode(encoded), float) - np.asarray(SMOOTH, float)
    assert abs(difference).mean() < 10  # lossy formats and a palette of 64 colours stay near


def test_exif_orientation_turns_the_image_upright(picture: Picture, encode: Encode) -> None:
    upright = picture(2, width=40, height=30)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    decoded = decode(encode(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(upright))


def test_transparent_parts_lie_over_white(picture: Picture, encode: Encode) -> None:
    pixels = np.asarray(picture(3).convert("RGBA")).copy()
    pixels[:10, :, 3] = 0
    decoded = np.asarray(decode(encode(Image.fromarray(pixels), "PNG")))
    assert (decoded[:10] == 255).all()
    np.testing.assert_array_equal(decoded[10:], pixels[10:, :, :3])


def test_a_transparent_palette_entry_lies_over_white(encode: Encode) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(1, (0, 0, 8, 4))
    decoded = np.asarray(decode(encode(image, "PNG", transparency=1)))
    assert (decoded[:4] == 255).all()
    assert (decoded[4:] == (10, 20, 30)).all()


def test_cmyk_becomes_rgb(encode: Encode) -> None:
    decoded = decode(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert decoded.mode == "RGB"
    red, green, blue = np.asarray(decoded)[8, 8]
    assert red > 200
    assert max(green, blue) < 60


def test_sixteen_bit_grey_keeps_its_high_byte(encode: Encode) -> None:
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    decoded = decode(encode(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(np.asarray(decoded), (values >> 8).astype(np.uint8))


def test_grey_is_the_luma_of_bt_601() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (0, 255, 0)).save(file, "PNG")
    assert decode_resized(file.getvalue(), 4, 4, 1).getextrema() == (150, 150)  # 0.587 * 255


def test_resizing_gives_height_and_width_in_that_order(picture: Picture, encode: Encode) -> None:
    resized = decode_resized(encode(picture(4), "PNG"), height=12, width=16, channels=3)
    assert np.asarray(resized).shape == (12, 16, 3)


def test_resizing_down_does_not_alias(encode: Encode) -> None:
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    resized = np.asarray(decode_resized(encode(Image.fromarray(checkerboard), "PNG"), 8, 8, 1))
    assert abs(resized.astype(int) - 127).max() <= 2  # bilinear without antialiasing gives 0 and 255


def test_an_image_of_the_wanted_size_is_left_alone(picture: Picture, encode: Encode) -> None:
    image = picture(5)
    np.testing.assert_array_equal(
        np.asarray(decode_resized(encode(image, "PNG"), 30, 40, 3)), np.asarray(image)
    )


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html><html><body>404</body></html>", "content is HTML, not an image"),
        (b"<html></html>", "content is HTML, not an image"),
        (b"MZ\x90\x00\x03\x00\x00\x00", "is no JPEG, PNG, GIF, BMP, WebP image, it begins with b'MZ"),
        (b"II*\x00" + bytes(100), "is no JPEG, PNG, GIF, BMP, WebP image"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "is no JPEG, PNG, GIF, BMP, WebP image"),
        (b"\xff\xd8\xff" + bytes(ENCODED_BYTES_LIMIT), "has 268,435,459 bytes, the limit is 268,435,456"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(UnusableImageError, match=reason):
        check_content(content, None)


def test_a_name_that_promises_another_format_is_named() -> None:
    with pytest.raises(UnusableImageError, match=r"content is PNG but the name says \.jpg: rename it"):
        check_content(EVERY_FORMAT["PNG"], "daisy/1.jpg")
    assert check_content(EVERY_FORMAT["PNG"], "daisy/1.PNG") == "PNG"
    assert check_content(EVERY_FORMAT["JPEG"], "daisy/1.jpeg") == "JPEG"


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_jpeg_is_refused(kept: float) -> None:
    encoded = EVERY_FORMAT["JPEG"]
    with pytest.raises(UnusableImageError, match="is damaged or cut off"):
        decode(encoded[: int(kept * len(encoded))])


@given(encoded=st.sampled_from(list(EVERY_FORMAT.values())), kept=st.floats(0, 1, exclude_max=True))
@settings(max_examples=400)
def test_a_cut_image_is_refused_or_complete(encoded: bytes, kept: float) -> None:
    try:
        decoded = decode(encoded[: int(kept * len(encoded))])
    except UnusableImageError:
        return
    assert decoded.tobytes() == decode(encoded).tobytes()


@given(
    encoded=st.sampled_from(list(EVERY_FORMAT.values())),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1
    ),
)
@settings(max_examples=600)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_damage_is_an_image_or_a_reason_but_never_a_crash(
    encoded: bytes, changes: list[tuple[float, bytes]]
) -> None:
    damaged = bytearray(encoded)
    for place, content in changes:
        start = int(place * len(damaged))
        damaged[start : start + len(content)] = content
    with contextlib.suppress(UnusableImageError):
        assert decode(bytes(damaged)).mode in ("L", "RGB")


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused(picture: Picture, encode: Encode, image_format: str) -> None:
    frames = [picture(seed) for seed in range(3)]
    animation = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
    with pytest.raises(UnusableImageError, match="is animated"):
        decode(animation)


def test_an_animation_cut_anywhere_is_refused(picture: Picture, encode: Encode) -> None:
    frames = [picture(seed, width=8, height=8).quantize(4) for seed in range(3)]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    second_frame = animation.index(b"!\xf9", animation.index(b"!\xf9") + 2)
    for end in range(second_frame):
        with contextlib.suppress(UnusableImageError):
            assert decode(animation[:end]).size == (8, 8)
    for end in range(second_frame + 20, len(animation)):
        with pytest.raises(UnusableImageError):
            decode(animation[:end])


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def with_size(encoded: bytes, place: int, layout: str, width: int, height: int) -> bytes:
    return encoded[:place] + struct.pack(layout, width, height) + encoded[place + struct.calcsize(layout) :]


def jpeg_with_size(width: int, height: int) -> bytes:
    encoded = EVERY_FORMAT["JPEG"]
    return with_size(encoded, encoded.index(b"\xff\xc0") + 5, ">HH", height, width)


WEBP_HEADER = (
    b"RIFF\x20\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00"
    + (16382).to_bytes(3, "little")
    + (16382).to_bytes(3, "little")
)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(png_header(20_000, 20_000), id="PNG"),
        pytest.param(png_header(8_001, 8_000), id="just too large"),
        pytest.param(jpeg_with_size(20_000, 20_000), id="JPEG"),
        pytest.param(with_size(EVERY_FORMAT["BMP"], 18, "<ii", 20_000, 20_000), id="BMP"),
        pytest.param(with_size(EVERY_FORMAT["GIF"], 6, "<HH", 20_000, 20_000), id="GIF"),
        pytest.param(WEBP_HEADER + bytes(100), id="WebP"),
    ],
)
def test_a_header_that_promises_too_many_pixels_is_refused(bomb: bytes) -> None:
    with pytest.raises(UnusableImageError, match="pixels, the limit"):
        decode(bomb)


def test_a_real_bomb_of_400_megapixels_is_refused_without_its_memory() -> None:
    """A complete and valid PNG of 60 kB; decoded, it would take 400 MB."""
    program = """
import resource, struct, zlib
from optduel.components.prepare.image import UnusableImageError, decode
def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
packer = zlib.compressobj(9)
row = bytes(1 + 20_000 // 8)
pixels = b"".join([*(packer.compress(row) for _ in range(20_000)), packer.flush()])
header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
bomb = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
assert len(bomb) < 60_000
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 100 * 2**20, -1))
try:
    decode(bomb)
except UnusableImageError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout == "has 20000 x 20000 pixels, the limit is 64,000,000\n"

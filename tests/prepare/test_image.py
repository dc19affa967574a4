import contextlib
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from optduel.components.prepare.image import (
    ENCODED_BYTES_LIMIT,
    UnusableImageError,
    check_content,
    decode_resized,
    decoding,
)
from optduel.components.prepare.room import Room

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

PATCHES = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SMOOTH = Image.fromarray(PATCHES).resize((40, 30), Image.Resampling.BILINEAR)


ROOM = Room(2**30)

pillow_heif.register_heif_opener()  # for tests, which save such files


def decode(encoded: bytes) -> Image.Image:
    with decoding(encoded, ROOM) as decoded:
        return decoded.image.copy()


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
    "TIFF": encoded_as("TIFF"),
    "compressed TIFF": encoded_as("TIFF", compression="tiff_lzw"),
    "AVIF": encoded_as("AVIF"),
    "HEIC": encoded_as("HEIF"),
}


# --- what is accepted -------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
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


@pytest.mark.parametrize("image_format", ["TIFF", "AVIF"])
def test_other_formats_stand_upright_too(picture: Picture, encode: Encode, image_format: str) -> None:
    upright = picture(2, width=40, height=30)
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(encode(upright.transpose(Image.Transpose.ROTATE_90), image_format, exif=exif))
    assert decoded.size == (40, 30)
    assert abs(np.asarray(decoded, float) - np.asarray(upright, float)).mean() < 4


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_a_tiff_keep_their_high_byte(encode: Encode, order: str) -> None:
    values = np.arange(64 * 64, dtype=f"{order}u2").reshape(64, 64) * 16
    image = Image.frombytes(
        "I;16B" if order == ">" else "I;16", (64, 64), values.astype(f"{order}u2").tobytes()
    )
    with decoding(encode(image, "TIFF"), ROOM) as decoded:
        np.testing.assert_array_equal(np.asarray(decoded.image), (values >> 8).astype(np.uint8))
        assert decoded.peak == 255


def test_values_of_32_bits_are_refused(encode: Encode) -> None:
    for values in (np.ones((8, 8), np.float32), np.ones((8, 8), np.int32)):
        with pytest.raises(UnusableImageError, match="has values of 32 bits: save it with 8 or 16 bits"):
            decode(encode(Image.fromarray(values), "TIFF"))


def test_huge_tiles_of_a_small_tiff_are_refused() -> None:
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 65_520, 323: 65_520, 324: 8, 325: 256}
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    encoded = b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(260)
    with pytest.raises(UnusableImageError, match="has tiles of 65520 x 65520 pixels, the limit is"):
        decode(encoded)


def tiff(order: str, entries: bytes, count: int) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(f"{order}LH", 8, count) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["H", "L", "B"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_orientation_alone_is_read_of_an_odd_exif_block(
    picture: Picture, encode: Encode, order: str, kind: str, orientation: int
) -> None:
    """The other tags are of an unknown type, and of a value far outside the block."""
    types = {"B": 1, "H": 3, "L": 4}
    value = struct.pack(f"{order}{kind}", orientation).ljust(4, b"\0")
    entries = [
        struct.pack(f"{order}HHLL", 0x010F, 77, 2**31, 2**32 - 1),
        struct.pack(f"{order}HHL", 0x0112, types[kind], 1) + value,
        struct.pack(f"{order}HHLL", 0x011A, 5, 1, 2**31),
    ]
    image = picture(2, width=9, height=7)
    decoded = decode(encode(image, "PNG", exif=tiff(order, b"".join(entries), 3)))
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = image.transpose(turns[orientation]) if orientation in turns else image
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(upright))


def check_random_exif(blocks: int) -> None:
    """Sound images with random blocks, and with blocks that begin well, all decode."""
    random = np.random.default_rng(5)
    jpeg, webp, png = (encoded_as(name) for name in ("JPEG", "WEBP", "PNG"))
    header, chunks = png[:33], png[33:]
    assert webp
    for number in range(blocks):
        block = random.bytes(int(random.integers(0, 120)))
        if number % 2:
            entries = b"".join(
                struct.pack(">HHLL", int(tag), int(random.integers(0, 14)), *random.integers(0, 2**32, 2))
                for tag in random.choice([0x0112, 0x011A, 0x0128, 0x8769, 0x8825, 0x927C, 0xA005], 4)
            )
            block = b"MM\0*" + struct.pack(">LH", 8, 4) + entries + block
        segment = b"Exif\0\0" + block
        with_segment = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
        chunk = (
            struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
        )
        encoded = jpeg[:2] + with_segment + jpeg[2:] if number % 4 < 2 else header + chunk + chunks
        assert sorted(decode(encoded).size) == [30, 40], block


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_no_exif_block_makes_a_sound_image_unusable() -> None:
    check_random_exif(1_000)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_none_of_20_000_exif_blocks_makes_a_sound_image_unusable() -> None:
    check_random_exif(20_000)


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


def png_of(depth: int, colour: int, rows: bytes, width: int, height: int, transparency: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", transparency), chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x40", 1, [0, 255]),
        (1, b"\x40", 0, [255, 255]),
        (2, b"\x1b", 2, [0, 85, 255, 255]),
        (4, bytes([0x0F, 0x70]), 7, [0, 255, 255, 0]),
        (8, bytes([9, 10, 11]), 10, [9, 255, 11]),
        (16, struct.pack(">3H", 32766, 32767, 65535), 32767, [127, 255, 255]),
    ],
)
def test_a_transparent_grey_lies_over_white_in_every_depth(
    depth: int, row: bytes, key: int, expected: list[int]
) -> None:
    encoded = png_of(depth, 0, row, len(expected), 1, struct.pack(">H", key))
    assert np.asarray(decode(encoded).convert("L"))[0].tolist() == expected


@pytest.mark.parametrize(("depth", "layout"), [(8, ">6B"), (16, ">6H")])
def test_a_transparent_colour_lies_over_white_in_every_depth(depth: int, layout: str) -> None:
    """The two pixels differ in the last bit of one value."""
    key, other = (200, 100, 51), (200, 100, 50)
    if depth == 16:
        key, other = (51200, 25600, 13051), (51200, 25600, 13050)
    row = struct.pack(layout, *key, *other)
    pixels = np.asarray(decode(png_of(depth, 2, row, 2, 1, struct.pack(">3H", *key))))
    assert pixels[0].tolist() == [[255, 255, 255], [200, 100, 50]]


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
    assert decode_resized(file.getvalue(), 4, 4, 1, ROOM).image.getextrema() == (150, 150)  # 0.587 * 255


def test_resizing_gives_height_and_width_in_that_order(picture: Picture, encode: Encode) -> None:
    resized = decode_resized(encode(picture(4), "PNG"), height=12, width=16, channels=3, room=ROOM).image
    assert np.asarray(resized).shape == (12, 16, 3)


def test_resizing_down_does_not_alias(encode: Encode) -> None:
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    resized = np.asarray(decode_resized(encode(Image.fromarray(checkerboard), "PNG"), 8, 8, 1, ROOM).image)
    assert abs(resized.astype(int) - 127).max() <= 2  # bilinear without antialiasing gives 0 and 255


def test_an_image_of_the_wanted_size_is_left_alone(picture: Picture, encode: Encode) -> None:
    image = picture(5)
    np.testing.assert_array_equal(
        np.asarray(decode_resized(encode(image, "PNG"), 30, 40, 3, ROOM).image), np.asarray(image)
    )


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html><html><body>404</body></html>", "content is HTML, not an image"),
        (b"<html></html>", "content is HTML, not an image"),
        (
            b"MZ\x90\x00\x03\x00\x00\x00",
            "is no JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC, AVIF image, it begins with b'MZ",
        ),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "is no JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC, AVIF image"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "is a git-lfs pointer, not the image: run `git lfs pull` where it was cloned",
        ),
        (
            b'<?xml version="1.0"?><Error><Code>AccessDenied',
            "is XML, not an image: perhaps a server's refusal",
        ),
        (b'{"error": {"code": 403}}', "is text like JSON, not an image: perhaps a server's refusal"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"PK\x03\x04", "is a zip archive: unpack it"),
        (b"<svg xmlns=", "is an SVG drawing: save it as PNG"),
        (bytes(128) + b"DICM", "is a DICOM file"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "is a video: save frames of it as images"),
        (b"\xff\xd8\xff" + bytes(ENCODED_BYTES_LIMIT), "has 268,435,459 bytes, the limit is 268,435,456"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(UnusableImageError, match=reason):
        check_content(content)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_jpeg_is_refused(kept: float) -> None:
    encoded = EVERY_FORMAT["JPEG"]
    with pytest.raises(UnusableImageError, match="is damaged or cut off"):
        decode(encoded[: int(kept * len(encoded))])


@given(encoded=st.sampled_from(list(EVERY_FORMAT.values())), kept=st.floats(0, 1, exclude_max=True))
@settings(max_examples=400)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
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


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_several_frames_or_pages_the_first_is_taken(
    picture: Picture, encode: Encode, image_format: str
) -> None:
    frames = [picture(seed) for seed in range(3)]
    single = encode(frames[0], image_format)
    animation = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
    with decoding(animation, ROOM) as first, decoding(single, ROOM) as expected:
        assert first.has_more
        assert not expected.has_more
        difference = np.asarray(first.image, float) - np.asarray(expected.image, float)
    assert abs(difference).mean() < 4  # encoders take the frames of an animation differently


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


def with_scans(encoded: bytes, scans: int) -> bytes:
    """A progressive JPEG file whose last scan comes again and again."""
    start, end = encoded.rindex(b"\xff\xda"), encoded.rindex(b"\xff\xd9")
    return encoded[:end] + encoded[start:end] * scans + encoded[end:]


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded() -> None:
    encoded = EVERY_FORMAT["progressive JPEG"]
    assert decode(with_scans(encoded, 80)).size == (40, 30)
    with pytest.raises(UnusableImageError, match="has 210 scans of 40 x 30 pixels, the limit is 100"):
        decode(with_scans(encoded, 200))


def test_a_large_jpeg_may_have_fewer_scans() -> None:
    encoded = with_scans(EVERY_FORMAT["progressive JPEG"], 40)
    large = with_size(encoded, encoded.index(b"\xff\xc2") + 5, ">HH", 8_000, 8_000)
    with pytest.raises(UnusableImageError, match="has 50 scans of 8000 x 8000 pixels, the limit is 16"):
        decode(large)


def test_what_looks_like_scans_in_an_embedded_block_does_not_count() -> None:
    encoded = EVERY_FORMAT["JPEG"]
    segment = b"\xff\xed" + struct.pack(">H", 2002) + b"\xff\xda" * 1000
    assert decode(encoded[:2] + segment + encoded[2:]).size == (40, 30)
    assert decode(encoded + b"\xff\xda\x00\x02" * 1000).size == (40, 30)


def test_a_real_bomb_of_400_megapixels_is_refused_without_its_memory() -> None:
    """A complete and valid PNG of 60 kB; decoded, it would take 400 MB."""
    program = """
import resource, struct, zlib
from optduel.components.prepare.image import UnusableImageError, decoding
from optduel.components.prepare.room import Room
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
    with decoding(bomb, Room(2**30)):
        pass
except UnusableImageError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout == "has 20000 x 20000 pixels, the limit is 64,000,000\n"

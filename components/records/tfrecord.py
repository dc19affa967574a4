"""The bytes of a TFRecord file whose records are tf.train.Examples with the features `label` and `image`.

Written without TensorFlow, so that preparing data needs none, and with the label's varint padded, so that
Examples of equally large images are equally long. Every TFRecord and Example reader understands the result.
"""

import functools
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

HEADER_BYTES = 12
"""Length (uint64) and its masked CRC-32C (uint32), before each record."""

FOOTER_BYTES = 4
"""Masked CRC-32C of the record, after it."""

LABEL_BYTES = 3
"""Width of the label's varint, padded so that every label takes the same room: 2^21 classes."""

_SHIFTS = tuple(range(0, 7 * LABEL_BYTES, 7))


def frame(example: bytes) -> bytes:
    """The example as one record of a TFRecord file.

    Reference: tensorflow/core/lib/io/record_writer.h; the mask is rotate right by 15, plus 0xa282ead8.
    """
    length = struct.pack("<Q", len(example))
    return b"".join([length, _masked_crc(length), example, _masked_crc(example)])


def frame_image(image: bytes, label: int) -> tuple[bytes, bytes, bytes]:
    """The parts of `frame(serialize_example(image, label))`, of which the second is the image, not copied."""
    head = _head(len(image), label)
    length = struct.pack("<Q", len(head) + len(image))
    return b"".join([length, _masked_crc(length), head]), image, _masked_crc(head, image)


def _masked_crc(*parts: bytes) -> bytes:
    crc = functools.reduce(google_crc32c.extend, parts, 0)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def serialize_example(image: bytes, label: int) -> bytes:
    """A tf.train.Example with `image` and `label`, the label's varint padded to LABEL_BYTES.

    Reference: the wire format of protocol buffers, and tensorflow/core/example/example.proto.
    """
    return _head(len(image), label) + image


@functools.lru_cache(maxsize=1024)
def _head(size: int, label: int) -> bytes:
    """What stands before the image, of so many bytes, in an Example: the image is its tail."""
    groups = [label >> shift & 0x7F for shift in _SHIFTS]
    padded = bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
    label_entry = _field(1, b"label") + _field(2, _field(3, _field(1, padded)))
    image_feature = _opening(1, _opening(1, b"", size), size)
    image_entry = _opening(1, _field(1, b"image") + _opening(2, image_feature, size), size)
    return _opening(1, _field(1, label_entry) + image_entry, size)


def _opening(number: int, start: bytes, size: int) -> bytes:
    """The begin of a field whose content is `start` and so many bytes that follow."""
    return bytes([number << 3 | 2]) + _varint(len(start) + size) + start


def example_offsets(example: bytes, image: bytes) -> tuple[int, int]:
    """Where image and label start in an Example made by `serialize_example` of `image`."""
    return len(example) - len(image), _label_offset(example)


def parse_example(example: bytes) -> tuple[bytes, int]:
    """Image and label of an Example made by `serialize_example`: the image is its tail."""
    offset = _label_offset(example)
    label = decode_label(example[offset : offset + LABEL_BYTES])
    position = example.index(b"image", offset) + len(b"image")
    for _ in range(3):  # value: Feature, its bytes_list, the list's only value
        _, position = _read_varint(example, position + 1)
    return example[position:], label


def decode_label(varint: bytes | bytearray) -> int:
    """The label from its padded varint of LABEL_BYTES bytes."""
    return sum((group & 0x7F) << shift for group, shift in zip(varint, _SHIFTS, strict=True))


def _label_offset(example: bytes) -> int:
    # After the key come tag and length of Feature, of Int64List and of its packed values: six bytes.
    return example.index(b"label") + len(b"label") + 6


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position


def sound_examples(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields where each example starts, and the example, up to the end or to the first damaged record.

    Raises:
        OSError: the file cannot be read.
    """
    left = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while header := file.read(HEADER_BYTES):
            length = int.from_bytes(header[:8], "little")
            left -= HEADER_BYTES + length + FOOTER_BYTES
            if left < 0:  # also what a damaged length comes to
                return
            example = file.read(length)
            if header + example + file.read(FOOTER_BYTES) != frame(example):
                return
            yield position + HEADER_BYTES, example
            position += HEADER_BYTES + length + FOOTER_BYTES

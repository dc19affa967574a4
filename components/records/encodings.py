"""Reads records of a shard into a batch: raw pixels from where they stand, JPEG files through a decoder."""

import io
import math
import struct
from typing import Protocol

import numpy as np
from PIL import Image

from optduel.components.core import DataError
from optduel.components.records.manifest import Manifest, Shard
from optduel.components.records.open_files import OpenFile
from optduel.components.records.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    LABEL_BYTES,
    decode_label,
    parse_example,
)


class Encoding(Protocol):
    """Reads records of one shard; safe from several threads at once."""

    def read(self, file: OpenFile, row: int, image: np.ndarray) -> int:
        """Fills an image, uint8 [height, width, channels] and contiguous, and returns its label."""


class RawRecords:
    """Records of one length: row r starts at r times that length.

    Raises:
        DataError: the manifest contradicts itself.
    """

    def __init__(self, manifest: Manifest, shard: Shard) -> None:
        length, image, label = manifest.example_bytes, manifest.image_offset, manifest.label_offset
        if length is None or image is None or label is None:
            raise DataError(f"{shard.file}: raw records without offsets in the manifest; run prepare again")
        pixels = math.prod(manifest.image_shape)
        if not 0 <= label <= image - LABEL_BYTES or image + pixels != length:
            raise DataError(
                f"{shard.file}: {length} bytes hold no label at {label} and {pixels} values at {image}; "
                "the manifest is damaged, run prepare again"
            )
        self._stride = HEADER_BYTES + length + FOOTER_BYTES
        if shard.bytes != self._stride * shard.records:
            raise DataError(
                f"{shard.file}: {shard.bytes} bytes are not {shard.records} records of {self._stride} bytes"
            )
        self._start = HEADER_BYTES + label
        self._head_bytes = image - label
        self._size = self._head_bytes + pixels

    def read(self, file: OpenFile, row: int, image: np.ndarray) -> int:
        """Reads label and pixels in one call, the pixels to where they belong."""
        head = bytearray(self._head_bytes)
        file.read_into((head, image.data), row * self._stride + self._start, self._size)
        return decode_label(head[:LABEL_BYTES])


class JpegRecords:
    """Records of different lengths, found by an index of 8 bytes a record.

    Raises:
        DataError: the shard is not a sequence of as many records as the manifest says.
    """

    def __init__(self, shard: Shard, file: OpenFile) -> None:
        self._ends = np.empty(shard.records + 1, np.int64)
        self._ends[0] = position = 0
        header = bytearray(HEADER_BYTES)
        for row in range(shard.records):
            file.read_into((header,), position, HEADER_BYTES)
            (length,) = struct.unpack_from("<Q", header)
            position += HEADER_BYTES + length + FOOTER_BYTES
            if position > shard.bytes:
                break
            self._ends[row + 1] = position
        if position != shard.bytes:
            raise DataError(f"{file.path}: does not hold {shard.records} records; run prepare again")

    def read(self, file: OpenFile, row: int, image: np.ndarray) -> int:
        """Reads and decodes; Pillow decodes without the interpreter's lock."""
        start, end = int(self._ends[row]) + HEADER_BYTES, int(self._ends[row + 1]) - FOOTER_BYTES
        example = bytearray(end - start)
        file.read_into((example,), start, end - start)
        encoded, label = parse_example(bytes(example))
        image[...] = decode_jpeg(encoded, image.shape)
        return label


def decode_jpeg(encoded: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of a record that is a JPEG file, uint8 [height, width, channels]."""
    with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as jpeg:
        return np.asarray(jpeg.convert("RGB" if shape[2] == 3 else "L")).reshape(shape)

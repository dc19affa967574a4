"""Reads TFRecord files record by record, each compared with its checksum."""

from collections.abc import Iterator
from pathlib import Path

from optduel.components.records.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame


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

import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optduel.components.records import example_offsets, frame, serialize_example
from optduel.components.records.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    LABEL_BYTES,
    decode_label,
    parse_example,
)

LARGEST_LABEL = 2 ** (7 * LABEL_BYTES) - 1

# Lengths in the message take one more byte from 128 and from 16,384 on.
SIZES = [0, 1, 63, 64, 80, 127, 128, 129, 255, 1000, 16_300, 16_383, 16_384, 16_385, 2_097_152]
LABELS = [0, 1, 127, 128, 16_383, 16_384, LARGEST_LABEL]


def pixels(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@given(image=st.binary(max_size=400), label=st.integers(0, LARGEST_LABEL))
@example(image=b"label\n\nimage\x12\x03", label=5)
def test_an_example_is_read_back(image: bytes, label: int) -> None:
    assert parse_example(serialize_example(image, label)) == (image, label)


@pytest.mark.parametrize("size", SIZES)
def test_image_and_label_stand_where_the_offsets_say(size: int) -> None:
    image = pixels(size)
    for label in LABELS:
        message = serialize_example(image, label)
        image_offset, label_offset = example_offsets(message, image)
        assert message[image_offset:] == image
        assert decode_label(message[label_offset : label_offset + LABEL_BYTES]) == label


@pytest.mark.parametrize("size", SIZES)
def test_the_length_does_not_depend_on_the_label(size: int) -> None:
    assert len({len(serialize_example(pixels(size), label)) for label in LABELS}) == 1


@given(st.binary(max_size=200))
def test_a_record_is_length_and_content_with_masked_checksums(content: bytes) -> None:
    def masked(data: bytes) -> int:
        checksum = google_crc32c.value(data)
        return int(((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) % 2**32

    record = frame(content)
    assert len(record) == HEADER_BYTES + len(content) + FOOTER_BYTES
    length, of_length = struct.unpack_from("<QI", record)
    (of_content,) = struct.unpack_from("<I", record, HEADER_BYTES + len(content))
    assert length == len(content)
    assert of_length == masked(record[:8])
    assert record[HEADER_BYTES:-FOOTER_BYTES] == content
    assert of_content == masked(content)


@pytest.mark.slow
def test_tensorflow_reads_records_and_examples(tmp_path: Path) -> None:
    import tensorflow as tf

    written = [(pixels(size), label) for size in SIZES[:-1] for label in LABELS]
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"".join(frame(serialize_example(image, label)) for image, label in written))
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    parsed = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(str(path))]
    assert [(entry["image"].numpy(), int(entry["label"])) for entry in parsed] == written
    # And as protocol buffers define them, without the fast parser.
    for image, label in written[::7]:
        message = tf.train.Example.FromString(serialize_example(image, label))
        assert message.features.feature["image"].bytes_list.value == [image]
        assert message.features.feature["label"].int64_list.value == [label]

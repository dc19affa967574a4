"""Records as the real writer makes them, read back, damaged and described."""

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.core import DataError, ExperimentError, StorageError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records, SplitReader, load_manifest, load_records
from optduel.components.records.integrity import verify_shards
from optduel.components.settings import Data, FolderSource, Split, canonical_json
from optduel.components.storage import publish

SHARDS = 3


def colour(label: int, index: int) -> tuple[int, int, int]:
    """One colour for each image; JPEG keeps a plain colour nearly exactly."""
    return (40 + 80 * label, 10 * index, 200 - 10 * index)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plain")
    for label, name in enumerate(("a", "b")):
        (place / name).mkdir()
        for index in range(10):
            Image.new("RGB", (9, 7), colour(label, index)).save(place / name / f"{index}.png")
    return place


def made(folder: Path, root: Path, **fields: object) -> Records:
    split = Split(train=0.6, validation=0.2, test=0.2)
    data = Data(
        source=FolderSource(path=str(folder)),
        image_size=(6, 8),
        split=split,
        shards=SHARDS,
        **fields,
    )
    return prepare_records(data, str(root))


@pytest.fixture
def records(folder: Path, tmp_path: Path) -> Records:
    return made(folder, tmp_path)


def every_place(reader: SplitReader) -> tuple[np.ndarray, np.ndarray]:
    places = [(shard, row) for shard, size in enumerate(reader.shard_sizes) for row in range(size)]
    shards, rows = np.array(places).T
    return shards, rows


# --- reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_example_is_read_with_its_label(
    folder: Path, tmp_path: Path, encoding: str, channels: int
) -> None:
    records = made(folder, tmp_path, encoding=encoding, channels=channels)
    found = []
    for split in ("train", "validation", "test"):
        reader = SplitReader(records, split)
        images, labels = reader.read(*every_place(reader))
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        assert images.shape == (len(reader), 6, 8, channels)
        found += [(int(label), image) for label, image in zip(labels, images, strict=True)]
    assert len(found) == 20
    expected = {}
    for label in range(2):
        for index in range(10):
            plain = Image.new("RGB", (1, 1), colour(label, index)).convert("L" if channels == 1 else "RGB")
            expected[label, index] = np.asarray(plain).reshape(channels).astype(int)
    for label, image in found:
        differences = {key: abs(image - value).max() for key, value in expected.items() if key[0] == label}
        nearest = min(differences, key=lambda key: differences[key])
        assert differences[nearest] <= (0 if encoding == "raw" else 3)
        del expected[nearest]
    assert not expected


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_examples_come_in_the_order_asked_for_repeated_if_asked_twice(
    folder: Path, tmp_path: Path, encoding: str
) -> None:
    reader = SplitReader(made(folder, tmp_path, encoding=encoding), "train")
    shards, rows = every_place(reader)
    images, labels = reader.read(shards, rows)
    order = np.random.default_rng(0).integers(0, len(shards), 50)
    again, again_labels = reader.read(shards[order], rows[order])
    np.testing.assert_array_equal(again, images[order])
    np.testing.assert_array_equal(again_labels, labels[order])


def test_shard_sizes_are_those_of_the_split(records: Records) -> None:
    reader = SplitReader(records, "train")
    assert len(reader) == 12
    assert reader.shard_sizes == (4, 4, 4)
    assert SplitReader(records, "test").shard_sizes == (2, 1, 1)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_nothing_is_read_as_nothing(folder: Path, tmp_path: Path, encoding: str) -> None:
    reader = SplitReader(made(folder, tmp_path, encoding=encoding), "train")
    images, labels = reader.read(np.array([], int), np.array([], int))
    assert images.shape == (0, 6, 8, 3)
    assert labels.shape == (0,)


def test_only_shards_that_are_asked_for_need_to_be_there(records: Records) -> None:
    entries = records.manifest.splits["train"].shards
    for entry in entries[1:]:
        (records.folder / entry.file).unlink()
    images, _ = SplitReader(records, "train").read(np.zeros(4, int), np.arange(4))
    assert len(images) == 4


def test_a_raw_shard_of_another_size_is_refused(records: Records) -> None:
    entry = records.manifest.splits["train"].shards[0]
    split = records.manifest.splits["train"]
    wrong = split.model_copy(
        update={"shards": (entry.model_copy(update={"bytes": entry.bytes - 1}), *split.shards[1:])}
    )
    manifest = records.manifest.model_copy(update={"splits": {"train": wrong}})
    reader = SplitReader(records.model_copy(update={"manifest": manifest}), "train")
    with pytest.raises(DataError, match="train-00000-of-00003.tfrecord: .* are not 4 records of"):
        reader.read(np.array([0]), np.array([0]))


@pytest.mark.parametrize(
    "change",
    [
        {"image_shape": (6, 9, 3)},
        {"image_shape": (6, 7, 3)},
        {"label_offset": -1},
        {"label_offset": 10_000},
        {"image_offset": 0},
    ],
    ids=str,
)
def test_a_layout_that_does_not_fit_its_records_is_refused(
    records: Records, change: dict[str, object]
) -> None:
    manifest = records.manifest.model_copy(update=change)
    reader = SplitReader(records.model_copy(update={"manifest": manifest}), "train")
    with pytest.raises(DataError, match="hold no label at .* the manifest is damaged"):
        reader.read(np.array([0]), np.array([0]))


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("label_offset",), -1, "greater than or equal to 0"),
        (("image_shape",), [6, 8, 2], "must be one of 1, 3"),
        (("splits", "train", "records"), 11, "11 records are not 12, the sum of the parts"),
        (("splits", "train", "shards", 0, "records"), 3, "12 records are not 11, the sum of the parts"),
        (("splits", "train", "shards", 0, "file"), "../../x.tfrecord", "match pattern"),
        (("splits", "train", "shards", 0, "crc32c"), "xyz", "match pattern"),
        (("splits", "train", "class_counts"), [1, 2], "12 records are not 3"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    records: Records, tmp_path: Path, path: tuple[Any, ...], value: object, rule: str
) -> None:
    """In the document that travels, too, which has no checksum of its own."""
    document = json.loads(records.canonical_json())
    place = document["manifest"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    (tmp_path / "records").write_text(canonical_json(document))
    with pytest.raises(ExperimentError, match=rule):
        load_records(tmp_path / "records")


def check_random_manifests(inputs: int, records: Records, folder: Path) -> None:
    """Bytes changed, cut out or repeated: the manifest that was written, or one documented error."""
    sound = (records.folder / "manifest.json").read_bytes()
    travelling = records.canonical_json().encode()
    random = np.random.default_rng(3)
    for number in range(inputs):
        content = bytearray((sound, travelling)[number % 2])
        for _ in range(int(random.integers(1, 4))):
            start, length = (int(value) for value in random.integers(0, (len(content), 8)))
            if random.integers(2):
                content[start : start + length] = random.bytes(length)
            else:
                content[start:start] = content[start - length : start]
        (folder / "x").write_bytes(content)
        with contextlib.suppress(DataError, ExperimentError):
            if number % 2:
                load_records(folder / "x")
            else:
                assert load_manifest(folder / "x") == records.manifest


def test_damaged_manifests_are_told(records: Records, tmp_path: Path) -> None:
    check_random_manifests(1_000, records, tmp_path)


@pytest.mark.exhaustive
def test_20_000_damaged_manifests_are_told(records: Records, tmp_path: Path) -> None:
    check_random_manifests(20_000, records, tmp_path)


@pytest.mark.parametrize(
    "document", ['{"a":' * 100_000, '{"schema_version": 1, "a": NaN}', '{"a": "\\ud800"}']
)
def test_an_odd_document_is_no_manifest(tmp_path: Path, document: str) -> None:
    (tmp_path / "x").write_text(document)
    for load in (load_records, load_manifest):
        with pytest.raises(DataError, match="run prepare again"):
            load(tmp_path / "x")


def test_raw_records_without_offsets_are_refused(records: Records) -> None:
    manifest = records.manifest.model_copy(update={"image_offset": None})
    reader = SplitReader(records.model_copy(update={"manifest": manifest}), "train")
    with pytest.raises(DataError, match="raw records without offsets in the manifest; run prepare again"):
        reader.read(np.array([0]), np.array([0]))


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_tensorflow_reads_what_the_reader_reads(folder: Path, tmp_path: Path, encoding: str) -> None:
    import tensorflow as tf

    records = made(folder, tmp_path, encoding=encoding)
    reader = SplitReader(records, "train")
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    for shard, entry in enumerate(records.manifest.splits["train"].shards):
        images, labels = reader.read(np.full(entry.records, shard), np.arange(entry.records))
        dataset = tf.data.TFRecordDataset(str(records.folder / entry.file))
        parsed = [tf.io.parse_single_example(record, features) for record in dataset]
        assert [int(example["label"]) for example in parsed] == labels.tolist()
        for example, image in zip(parsed, images, strict=True):
            content = example["image"].numpy()
            if encoding == "raw":
                assert content == image.tobytes()
            else:
                np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), image)


# --- integrity --------------------------------------------------------------------------------------


def test_whole_shards_pass(records: Records) -> None:
    for split in records.manifest.splits.values():
        verify_shards(records, split.shards)


def test_every_single_flipped_bit_is_found(records: Records) -> None:
    entry = records.manifest.splits["train"].shards[0]
    path = records.folder / entry.file
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(content), 50):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=f"{entry.file}: CRC-32C .*, the manifest says {entry.crc32c}"):
            verify_shards(records, [entry])


def test_every_damaged_shard_is_named(records: Records) -> None:
    short, gone, swapped, *_ = records.manifest.splits["train"].shards
    path = records.folder / short.file
    path.write_bytes(path.read_bytes()[:-1])
    (records.folder / gone.file).unlink()
    (records.folder / swapped.file).write_bytes(
        (records.folder / records.manifest.splits["validation"].shards[0].file).read_bytes()
    )
    with pytest.raises(DataError) as caught:
        verify_shards(records, records.manifest.splits["train"].shards)
    head, *lines = str(caught.value).splitlines()
    assert head.startswith(f"{records.location}: 3 damaged shard(s); ")
    assert f"{short.file}: {short.bytes - 1} bytes, the manifest says {short.bytes}" in lines[0]
    assert f"{gone.file}: No such file or directory" in lines[1]
    assert swapped.file in lines[2]


# --- documents --------------------------------------------------------------------------------------


def test_the_document_that_travels_is_read_back(records: Records, tmp_path: Path) -> None:
    publish(tmp_path / "records", records.canonical_json().encode())
    assert load_records(tmp_path / "records") == records
    assert load_manifest(records.folder / "manifest.json") == records.manifest


def test_the_final_split_is_the_test_split_where_there_is_one(records: Records) -> None:
    assert records.manifest.final_split == "test"
    splits = {name: split for name, split in records.manifest.splits.items() if name != "test"}
    assert records.manifest.model_copy(update={"splits": splits}).final_split == "validation"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe"])
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    for load in (load_records, load_manifest):
        with pytest.raises(DataError, match="run prepare again"):
            load(tmp_path / "x")


def test_another_schema_is_refused(records: Records, tmp_path: Path) -> None:
    later = records.canonical_json().replace('"schema_version":1', '"schema_version":2')
    (tmp_path / "records").write_text(later)
    with pytest.raises(DataError, match="schema 2, this code reads 1; run prepare again"):
        load_records(tmp_path / "records")
    manifest = records.manifest.canonical_json().replace('"schema_version":1', '"schema_version":2')
    (tmp_path / "manifest").write_text(manifest)
    with pytest.raises(DataError, match="schema 2, this code reads 1; run prepare again"):
        load_manifest(tmp_path / "manifest")


def test_a_manifest_with_missing_fields_is_refused(records: Records, tmp_path: Path) -> None:
    document = records.manifest.model_dump(mode="json", exclude={"classes"})
    checksum = hashlib.sha256(canonical_json(document).encode()).hexdigest()
    (tmp_path / "x").write_text(canonical_json({**document, "checksum": checksum}))
    with pytest.raises(ExperimentError, match="classes: is required"):
        load_manifest(tmp_path / "x")


def test_an_absent_document_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        load_records(tmp_path / "nowhere")

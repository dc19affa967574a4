"""The reader's use of memory, files and threads."""

import io
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from PIL import Image

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import (
    Duplicates,
    Manifest,
    Records,
    RecordsSplit,
    Shard,
    SplitReader,
    example_offsets,
    first_examples,
    frame,
    reader,
    serialize_example,
)
from optduel.components.records.open_files import OpenFile
from optduel.components.settings import Data, FolderSource, Split

REPOSITORY = Path(__file__).parents[2]


def write_raw(folder: Path, shard_count: int, rows: int, side: int) -> Records:
    """Raw records, each filled with the number of its shard and labelled with the number of its row."""
    shards = []
    pixels = bytes(side * side * 3)
    example = serialize_example(pixels, 0)
    image_offset, label_offset = example_offsets(example, pixels)
    for shard in range(shard_count):
        content = b"".join(
            frame(serialize_example(bytes([shard % 256]) * len(pixels), row)) for row in range(rows)
        )
        name = f"train-{shard:05d}.tfrecord"
        (folder / name).write_bytes(content)
        crc32c = f"{google_crc32c.value(content):08x}"
        shards.append(Shard(file=name, records=rows, bytes=len(content), crc32c=crc32c))
    total = shard_count * rows
    manifest = Manifest(
        name="made",
        fingerprint="0" * 64,
        source="made",
        classes=("a",),
        image_shape=(side, side, 3),
        encoding="raw",
        example_bytes=len(example),
        image_offset=image_offset,
        label_offset=label_offset,
        splits={"train": RecordsSplit(records=total, class_counts=(total,), shards=tuple(shards))},
        duplicates=Duplicates(groups=0, images=0),
    )
    return Records(location=str(folder), manifest=manifest)


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    """All of 228 MiB is read, twice, with less than 40 MiB more than at the start."""
    records = write_raw(tmp_path, shard_count=4, rows=200, side=316)
    assert sum(shard.bytes for shard in records.manifest.splits["train"].shards) > 228 * 2**20
    program = f"""
import numpy as np
from optduel.components.records import Records, SplitReader, stage
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
records = Records.model_validate_json({records.canonical_json()!r})
with stage(records, records.manifest.splits["train"].shards) as staged:
    reader = SplitReader(staged, "train")
    order = np.random.default_rng(0).permutation(len(reader))
    before, peak = resident(), 0
    for start in 2 * list(range(0, len(reader), 32)):
        positions = order[start : start + 32]
        images, labels = reader.read(positions % 4, positions // 4)
        assert (labels == positions // 4).all() and (images[:, 0, 0, 0] == positions % 4).all()
        peak = max(peak, resident())
print(peak - before)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(finished.stdout) < 40 * 2**20


def test_open_files_are_bounded_whatever_the_number_of_shards(tmp_path: Path) -> None:
    records = write_raw(tmp_path, shard_count=reader.FILES_LIMIT + 100, rows=2, side=4)
    split_reader = SplitReader(records, "train")
    before = len(os.listdir("/proc/self/fd"))
    count = len(split_reader.shard_sizes)
    for _ in range(2):
        images, labels = split_reader.read(np.arange(count), np.full(count, 1))
        assert (images[:, 0, 0, 0] == np.arange(count) % 256).all()
        assert (labels == 1).all()
    assert len(os.listdir("/proc/self/fd")) <= before + reader.FILES_LIMIT


@pytest.fixture
def jpeg_records(tmp_path: Path) -> Records:
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / "source" / label).mkdir(parents=True)
        for index in range(40):
            plain = Image.new("RGB", (16, 12), (6 * index, 128 * (label == "b"), 200))
            plain.save(tmp_path / "source" / label / f"{index}.png")
    source = FolderSource(path=str(tmp_path / "source"))
    data = Data(source=source, image_size=(12, 16), shards=4, encoding="jpeg", split=Split())
    return prepare_records(data, str(tmp_path / "root"))


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_threads_may_read_at_once_while_files_come_and_go(
    jpeg_records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    (tmp_path / "raw").mkdir()
    records = write_raw(tmp_path / "raw", 9, 20, 8) if encoding == "raw" else jpeg_records
    expected_reader = SplitReader(records, "train")
    sizes = expected_reader.shard_sizes
    places = np.array([(shard, row) for shard, size in enumerate(sizes) for row in range(size)])
    images, labels = expected_reader.read(*places.T)
    monkeypatch.setattr(reader, "FILES_LIMIT", 1)
    shared = SplitReader(records, "train")
    failures: list[str] = []

    def read_at_random(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(40):
            chosen = generator.integers(0, len(places), 16)
            try:
                found, found_labels = shared.read(*places[chosen].T)
            except (DataError, StorageError, OSError) as error:
                failures.append(str(error))
                return
            if not ((found == images[chosen]).all() and (found_labels == labels[chosen]).all()):
                failures.append("other examples")

    threads = [threading.Thread(target=read_at_random, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_jpeg_records_need_no_open_file_for_their_index(jpeg_records: Records) -> None:
    split_reader = SplitReader(jpeg_records, "train", threads=2)
    before = len(os.listdir("/proc/self/fd"))
    split_reader.read(np.arange(4), np.zeros(4, int))
    assert len(os.listdir("/proc/self/fd")) == before + 4
    del split_reader
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_shard_that_ends_early_is_named(jpeg_records: Records, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "raw").mkdir()
    records = write_raw(tmp_path / "raw", 2, 20, 8) if encoding == "raw" else jpeg_records
    shard = records.manifest.splits["train"].shards[1]
    os.truncate(records.path(shard), shard.bytes - 40)
    split_reader = SplitReader(records, "train")
    with pytest.raises(DataError, match=f"{shard.file}: ends within a record, at byte {shard.bytes - 40}"):
        split_reader.read(np.array([1]), np.array([shard.records - 1]))


def test_jpeg_records_that_are_not_as_many_as_the_manifest_says_are_refused(jpeg_records: Records) -> None:
    split = jpeg_records.manifest.splits["train"]
    for count in (split.shards[0].records - 1, split.shards[0].records + 1):
        shards = (split.shards[0].model_copy(update={"records": count}), *split.shards[1:])
        wrong = split.model_copy(update={"shards": shards})
        manifest = jpeg_records.manifest.model_copy(update={"splits": {"train": wrong}})
        records = jpeg_records.model_copy(update={"manifest": manifest})
        with pytest.raises(DataError, match="train-00000-of-00004.tfrecord"):
            SplitReader(records, "train").read(np.array([0]), np.array([0]))


def test_a_shard_that_cannot_be_opened_is_a_storage_error(jpeg_records: Records) -> None:
    jpeg_records.path(jpeg_records.manifest.splits["train"].shards[0]).unlink()
    with pytest.raises(StorageError, match="train-00000-of-00004.tfrecord: No such file or directory"):
        SplitReader(jpeg_records, "train").read(np.array([0]), np.array([0]))


@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_file_system_that_gives_less_at_once_is_asked_again(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(200))
    (tmp_path / "shard").write_bytes(content)
    whole = os.preadv

    def some(descriptor: int, buffers: list[bytearray | memoryview], start: int) -> int:
        return whole(descriptor, [memoryview(buffers[0])[:most]], start)

    monkeypatch.setattr(os, "preadv", some)
    file = OpenFile(tmp_path / "shard")
    buffers = [bytearray(5), bytearray(100), bytearray(50)]
    file.read_into(buffers, 10, 155)
    assert b"".join(buffers) == content[10:165]
    with pytest.raises(DataError, match="ends within a record, at byte 200"):
        file.read_into(buffers, 60, 155)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_batch_may_be_spread_over_more_shards_than_may_be_open(tmp_path: Path, encoding: str) -> None:
    records = write_raw(tmp_path, shard_count=300, rows=2, side=2)
    if encoding == "jpeg":
        records = as_jpeg(records)
    in_use = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    random = np.random.default_rng(0)
    shards, rows = random.integers(0, 300, 3000), random.integers(0, 2, 3000)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 2 * reader.FILES_LIMIT + 20, hard))
        images, labels = SplitReader(records, "train", threads=2).read(shards, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert labels.tolist() == rows.tolist()
    difference = images.astype(int) - (shards % 256)[:, None, None, None]
    assert abs(difference).max() <= (0 if encoding == "raw" else 1)


def as_jpeg(records: Records) -> Records:
    """The same data set with JPEG files for pixels."""
    split = records.manifest.splits["train"]
    shards = []
    for shard in split.shards:
        content = b""
        for image, label in first_examples(records, shard, shard.bytes):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=95)
            content += frame(serialize_example(file.getvalue(), label))
        records.path(shard).write_bytes(content)
        crc32c = f"{google_crc32c.value(content):08x}"
        shards.append(shard.model_copy(update={"bytes": len(content), "crc32c": crc32c}))
    splits = {"train": split.model_copy(update={"shards": tuple(shards)})}
    manifest = records.manifest.model_copy(update={"splits": splits, "encoding": "jpeg"})
    return records.model_copy(update={"manifest": manifest})


def test_the_first_examples_are_read_up_to_a_number_of_bytes(tmp_path: Path) -> None:
    records = write_raw(tmp_path, shard_count=2, rows=10, side=4)
    shard = records.manifest.splits["train"].shards[1]
    each = shard.bytes // 10
    for most, count in ((0, 0), (1, 0), (each - 1, 0), (each, 1), (3 * each + 13, 3), (10**9, 10)):
        found = list(first_examples(records, shard, most))
        assert [label for _, label in found] == list(range(count))
        assert all((image == 1).all() and image.shape == (4, 4, 3) for image, _ in found)
    path = records.path(shard)
    content = bytearray(path.read_bytes())
    content[2 * each + 40] ^= 1
    path.write_bytes(content)
    assert len(list(first_examples(records, shard, 2 * each))) == 2
    with pytest.raises(DataError, match=f"{shard.file}: is damaged at byte {2 * each}; run prepare again"):
        list(first_examples(records, shard, 3 * each))
    path.write_bytes(content[: 2 * each])
    with pytest.raises(StorageError, match=f"{shard.file}: ends at byte {2 * each}; write it again"):
        list(first_examples(records, shard, 3 * each))

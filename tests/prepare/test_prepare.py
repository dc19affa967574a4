import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.core import DataError
from optduel.components.prepare.image import decode_resized
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.prepare.room import Room
from optduel.components.records import Records, load_manifest
from optduel.components.records.integrity import verify_shards
from optduel.components.settings import Data, DigitsSource, FolderSource, Split

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]
Contents = Callable[[Records], dict[str, bytes]]
ReadSplit = Callable[[Records, str], tuple[np.ndarray, np.ndarray]]


def examples_of(records: Records, read_split: ReadSplit) -> list[tuple[bytes, int]]:
    found = []
    for split in records.manifest.splits:
        pixels, labels = read_split(records, split)
        found += [(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)]
    return found


def test_records_hold_every_image_once_resized_with_its_label(
    images: Images, memory_source: Any, settings: Settings, read_split: ReadSplit, tmp_path: Path
) -> None:
    records = prepare_source(memory_source(images), settings(), tmp_path, threads=2)
    expected = [
        (decode_resized(encoded, 12, 16, 3, Room(2**20)).image.tobytes(), label)
        for _, label, encoded, _ in images
    ]
    assert sorted(examples_of(records, read_split)) == sorted(expected)


def test_the_manifest_describes_the_records(
    images: Images, memory_source: Any, settings: Settings, read_split: ReadSplit, tmp_path: Path
) -> None:
    data = settings(split=Split(train=0.6, validation=0.2, test=0.2))
    records = prepare_source(memory_source(images), data, tmp_path, threads=2)
    manifest = records.manifest
    assert records.folder == tmp_path / "datasets" / "memory" / manifest.fingerprint
    assert manifest == load_manifest(records.folder / "manifest.json")
    assert manifest.classes == ("daisy", "roses", "tulips")
    assert manifest.image_shape == (12, 16, 3)
    assert {name: split.class_counts for name, split in manifest.splits.items()} == {
        "train": (6, 6, 6),
        "validation": (2, 2, 2),
        "test": (2, 2, 2),
    }
    for name, split in manifest.splits.items():
        assert [shard.file for shard in split.shards] == [
            f"{name}-{shard:05d}-of-00004.tfrecord" for shard in range(4)
        ]
        sizes = [shard.records for shard in split.shards]
        assert sum(sizes) == split.records
        assert max(sizes) - min(sizes) <= 1
        verify_shards(records, split.shards)
        _, labels = read_split(records, name)
        assert tuple(np.bincount(labels, minlength=3)) == split.class_counts
    present = {path.name for path in records.folder.iterdir()}
    assert present == {"manifest.json"} | {s.file for split in manifest.splits.values() for s in split.shards}


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_the_same_source_gives_the_same_bytes_whatever_threads_and_order(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    encoding: str,
) -> None:
    images = [*images, ("copy", 0, images[0][2], False), ("conflict", 1, images[0][2], False)]
    shuffled = random.Random(3).sample(images, len(images))
    renamed = [(f"renamed-{name}", *rest) for name, *rest in images if not name.startswith("co")] + images[
        -2:
    ]
    data = settings(encoding=encoding)
    first = prepare_source(memory_source(images), data, tmp_path / "1", threads=1)
    second = prepare_source(memory_source(shuffled), data, tmp_path / "2", threads=4)
    third = prepare_source(memory_source(renamed), data, tmp_path / "3", threads=3)
    assert contents_of(first) == contents_of(second)
    shards = [{k: v for k, v in contents_of(r).items() if k != "manifest.json"} for r in (first, third)]
    assert shards[0] == shards[1]
    assert first.manifest.fingerprint == third.manifest.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (16, 12)},
        {"channels": 1},
        {"encoding": "jpeg"},
        {"shards": 2},
        {"split": Split(seed=1)},
        {"split": Split(train=0.7, validation=0.2, test=0.1)},
        {"skip_corrupt": True},
    ],
    ids=str,
)
def test_every_setting_has_a_data_set_of_its_own(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, change: dict[str, Any]
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=1)
    second = prepare_source(source, settings(**change), tmp_path, threads=1)
    assert first.folder != second.folder
    verify_shards(first, [shard for split in first.manifest.splits.values() for shard in split.shards])


@pytest.mark.parametrize("changed", ["content", "label", "class name", "test split"])
def test_every_change_of_the_source_gives_another_fingerprint(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, changed: str
) -> None:
    def fingerprint(images: Images, **options: Any) -> str:
        return prepare_source(memory_source(images, **options), data, tmp_path, 1).manifest.fingerprint

    data = settings(split=Split(train=0.8, validation=0.2, test=0))
    original = fingerprint(images)
    name, label, encoded, is_test = images[0]
    match changed:
        case "content":
            assert fingerprint([(name, label, encoded + b"\0", is_test), *images[1:]]) != original
        case "label":
            assert fingerprint([(name, 1, encoded, is_test), *images[1:]]) != original
        case "class name":
            assert fingerprint(images, classes=("a", "roses", "tulips")) != original
        case "test split":
            tests = [
                (name, label, encoded, index % 5 == 0)
                for index, (name, label, encoded, _) in enumerate(images)
            ]
            assert fingerprint(tests) != original


def test_jpeg_records_hold_the_resized_images_with_quality_95(
    images: Images, memory_source: Any, settings: Settings, encode: Any, read_split: ReadSplit, tmp_path: Path
) -> None:
    raw = prepare_source(memory_source(images), settings(), tmp_path, threads=1)
    jpeg = prepare_source(memory_source(images), settings(encoding="jpeg"), tmp_path, threads=1)
    assert jpeg.manifest.example_bytes is None
    for split in raw.manifest.splits:
        raw_pixels, raw_labels = read_split(raw, split)
        jpeg_pixels, jpeg_labels = read_split(jpeg, split)
        np.testing.assert_array_equal(raw_labels, jpeg_labels)
        for pixels, decoded in zip(raw_pixels, jpeg_pixels, strict=True):
            again = Image.open(io.BytesIO(encode(Image.fromarray(pixels), "JPEG", quality=95)))
            np.testing.assert_array_equal(decoded, np.asarray(again))


def test_a_split_smaller_than_its_shards_leaves_some_empty(
    images: Images, memory_source: Any, settings: Settings, read_split: ReadSplit, tmp_path: Path
) -> None:
    records = prepare_source(memory_source(images), settings(shards=8), tmp_path, threads=2)
    sizes = [shard.records for shard in records.manifest.splits["test"].shards]
    assert sizes == [1, 1, 1, 0, 0, 0, 0, 0]
    pixels, _ = read_split(records, "test")
    assert pixels.shape == (3, 12, 16, 3)


def test_a_source_that_changes_while_it_is_read_is_refused(
    images: Images,
    memory_source: Any,
    settings: Settings,
    tmp_path: Path,
    encode: Any,
    nothing_is_kept: None,
) -> None:
    other = encode(Image.new("RGB", (20, 20)), "PNG")

    class Changing(memory_source):  # type: ignore[misc]
        reads = 0

        def read(self, position: int) -> bytes:
            self.reads += 1
            return other if self.reads > len(images) else bytes(super().read(position))

    with pytest.raises(DataError, match="changed while it was read"):
        prepare_source(Changing(images), settings(), tmp_path, threads=1)
    assert not list(tmp_path.rglob("manifest.json"))


def test_digits_need_nothing_but_the_package(read_split: ReadSplit, tmp_path: Path) -> None:
    data = Data(source=DigitsSource(), image_size=(8, 8), channels=1)
    records = prepare_records(data, str(tmp_path))
    assert records.manifest.name == "digits"
    assert sum(split.records for split in records.manifest.splits.values()) == 1797
    assert records.manifest.duplicates.groups == 0
    pixels, _ = read_split(records, "train")
    assert pixels.shape[1:] == (8, 8, 1)
    assert (pixels.min(), pixels.max()) == (0, 255)
    document = json.loads(records.canonical_json())
    assert Records.model_validate(document) == records


def test_the_manifest_tells_formats_and_sizes_of_the_images_as_they_came(
    image_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    records = prepare_records(settings(source=FolderSource(path=str(image_folder))), str(tmp_path / "root"))
    originals = records.manifest.originals
    assert originals.formats == {"JPEG": 9, "PNG": 9, "WebP": 6}
    assert originals.widths == (24, 24, 33, 33, 42)
    assert originals.heights == (20, 20, 21, 22, 22)

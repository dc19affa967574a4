import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.errors import DataError
from components.core.experiment import Data, DigitsSource, FolderSource, Split
from components.core.records import Records, SplitReader, load_manifest, verify_shards
from components.prepare.folder_source import Folder
from components.prepare.image import decode_resized
from components.prepare.prepare import prepare_records, prepare_source

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]
Contents = Callable[[Records], dict[str, bytes]]


def read_split(records: Records, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All examples of a split in order: example p is record p // S of shard p % S."""
    reader = SplitReader(records, split)
    shards = len(reader.shard_sizes)
    examples = np.arange(len(reader))
    return reader.read(examples % shards, examples // shards)


def examples_of(records: Records) -> list[tuple[bytes, int]]:
    found = []
    for split in records.manifest.splits:
        pixels, labels = read_split(records, split)
        found += [(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)]
    return found


def test_records_hold_every_image_once_resized_with_its_label(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    records = prepare_source(memory_source(images), settings(), tmp_path, threads=2)
    expected = [(decode_resized(encoded, 12, 16, 3).tobytes(), label) for _, label, encoded, _ in images]
    assert sorted(examples_of(records)) == sorted(expected)


def test_the_manifest_describes_the_records(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path
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


# --- again ------------------------------------------------------------------------------------------


def test_what_is_there_already_is_not_written_again(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times
    assert "are there already" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "shortened", "removed"])
def test_only_damaged_shards_are_written_again(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    whole = contents_of(first)
    times = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    shard = first.folder / first.manifest.splits["train"].shards[2].file
    content = bytearray(shard.read_bytes())
    match damage:
        case "flipped":
            content[len(content) // 2] ^= 1
            shard.write_bytes(content)
        case "shortened":
            shard.write_bytes(content[:-1])
        case "removed":
            shard.unlink()
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert contents_of(first) == whole
    written = {path.name for path in first.folder.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert written == {shard.name, "manifest.json"}
    assert shard.name in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 99}', b'{"schema_version": 1}'])
def test_a_damaged_manifest_is_written_again(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    (first.folder / "manifest.json").write_bytes(content)
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert load_manifest(first.folder / "manifest.json") == first.manifest


# --- bad images -------------------------------------------------------------------------------------


@pytest.fixture
def bad_folder(image_folder: Path) -> Path:
    """The readable images and one of each kind of unusable file."""
    jpeg = (image_folder / "daisy" / "0.jpg").read_bytes()
    png = (image_folder / "daisy" / "1.png").read_bytes()
    (image_folder / "daisy" / "empty.jpg").touch()
    (image_folder / "daisy" / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (image_folder / "roses" / "corrupt.jpg").write_bytes(jpeg[:20] + bytes(200) + jpeg[220:])
    (image_folder / "roses" / "png.jpg").write_bytes(png)
    (image_folder / "roses" / "page.jpg").write_text("<html>not found</html>")
    (image_folder / "tulips" / "notes.txt").write_text("x")
    return image_folder


BAD = [
    "daisy/cut.jpg",
    "daisy/empty.jpg",
    "roses/corrupt.jpg",
    "roses/page.jpg",
    "roses/png.jpg",
    "tulips/notes.txt",
]


def test_all_unusable_images_are_named_at_once_and_nothing_is_written(
    bad_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with pytest.raises(DataError) as caught:
        prepare_records(settings(source=FolderSource(path=str(bad_folder))), str(root))
    head, *lines = str(caught.value).splitlines()
    assert head == (
        "image folder My Flowers: 6 problem(s); mend them, or leave them out with data.skip_corrupt = true"
    )
    assert [line.partition(":")[0] for line in lines] == BAD
    reasons = dict(line.split(": ", 1) for line in lines)
    assert reasons["daisy/empty.jpg"] == "is empty (0 bytes)"
    assert reasons["daisy/cut.jpg"].startswith("is damaged or cut off")
    assert reasons["roses/corrupt.jpg"].startswith("is damaged or cut off")
    assert reasons["roses/png.jpg"] == "content is PNG but the name says .jpg: rename it"
    assert reasons["roses/page.jpg"] == "content is HTML, not an image"
    assert not root.exists()


def test_unusable_images_are_left_out_and_recorded_when_asked(
    bad_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    data = settings(source=FolderSource(path=str(bad_folder)), skip_corrupt=True)
    records = prepare_records(data, str(tmp_path / "root"))
    assert sum(split.records for split in records.manifest.splits.values()) == 24
    assert [skipped.image for skipped in records.manifest.skipped] == BAD
    assert all(skipped.reason for skipped in records.manifest.skipped)
    assert prepare_records(data, str(tmp_path / "root")) == records


def test_what_is_left_out_later_is_recorded_too(
    image_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    data = settings(source=FolderSource(path=str(image_folder)), skip_corrupt=True)
    prepare_records(data, str(tmp_path / "root"))
    (image_folder / "daisy" / "notes.txt").write_text("x")
    records = prepare_records(data, str(tmp_path / "root"))
    assert [skipped.image for skipped in records.manifest.skipped] == ["daisy/notes.txt"]


def test_a_bad_file_beside_known_records_is_still_refused(
    image_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    data = settings(source=FolderSource(path=str(image_folder)))
    prepare_records(data, str(tmp_path / "root"))
    (image_folder / "daisy" / "empty.jpg").touch()
    with pytest.raises(DataError, match="empty.jpg: is empty"):
        prepare_records(data, str(tmp_path / "root"))


def test_a_long_list_of_problems_is_cut(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    for index in range(30):
        (image_folder / "daisy" / f"empty-{index:02d}.jpg").touch()
    with pytest.raises(DataError) as caught:
        prepare_records(settings(source=FolderSource(path=str(image_folder))), str(tmp_path / "root"))
    lines = str(caught.value).splitlines()
    assert "30 problem(s)" in lines[0]
    assert len(lines) == 22
    assert lines[-1] == "... and 10 more"


def test_a_class_with_nothing_readable_is_refused_even_when_skipping(
    image_folder: Path, settings: Settings, tmp_path: Path
) -> None:
    for image in (image_folder / "roses").iterdir():
        image.write_bytes(b"")
    data = settings(source=FolderSource(path=str(image_folder)), skip_corrupt=True)
    with pytest.raises(DataError, match="class roses: train 0, validation 0, test 0"):
        prepare_records(data, str(tmp_path / "root"))


def test_a_file_that_cannot_be_read_is_named(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    source = Folder(FolderSource(path=str(image_folder)))
    (image_folder / "daisy" / "0.jpg").unlink()
    with pytest.raises(DataError, match="daisy/0.jpg: cannot be read: No such file or directory"):
        prepare_source(source, settings(), tmp_path / "root", threads=1)


def test_broken_exif_does_not_make_an_image_unusable(
    images: Images,
    memory_source: Any,
    settings: Settings,
    encode: Callable[..., bytes],
    picture: Any,
    tmp_path: Path,
) -> None:
    jpeg = encode(picture(7), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x07garbage")
    source = memory_source([*images, ("odd", 0, jpeg, False)])
    records = prepare_source(source, settings(), tmp_path, threads=2)
    assert sum(split.records for split in records.manifest.splits.values()) == 31


# --- duplicates -------------------------------------------------------------------------------------


def test_duplicates_are_reported_and_conflicting_ones_named(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    copies = [
        ("copy-1", 0, images[0][2], False),
        ("copy-2", 0, images[0][2], False),
        ("other", 2, images[15][2], False),
    ]
    records = prepare_source(memory_source([*images, *copies]), settings(), tmp_path, threads=2)
    duplicates = records.manifest.duplicates
    assert (duplicates.groups, duplicates.images) == (2, 5)
    assert duplicates.conflicting == ("other", "roses-5")
    assert sum(split.records for split in records.manifest.splits.values()) == 33


def test_training_images_that_repeat_a_declared_test_image_are_left_out(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    tests = [(f"test-{label}", label, images[10 * label][2], True) for label in range(3)]
    data = settings(split=Split(train=0.8, validation=0.2, test=0))
    records = prepare_source(memory_source([*images, *tests]), data, tmp_path, threads=2)
    assert records.manifest.splits["test"].records == 3
    assert sum(split.records for split in records.manifest.splits.values()) == 30
    assert [skipped.image for skipped in records.manifest.skipped] == ["daisy-0", "roses-0", "tulips-0"]
    assert records.manifest.skipped[0].reason == "has the same content as test-0 of the test split"
    test_images, _ = read_split(records, "test")
    train_images, _ = read_split(records, "train")
    assert not {image.tobytes() for image in test_images} & {image.tobytes() for image in train_images}


# --- other properties -------------------------------------------------------------------------------


def test_jpeg_records_hold_the_resized_images_with_quality_95(
    images: Images, memory_source: Any, settings: Settings, encode: Any, tmp_path: Path
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
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    records = prepare_source(memory_source(images), settings(shards=8), tmp_path, threads=2)
    sizes = [shard.records for shard in records.manifest.splits["test"].shards]
    assert sizes == [1, 1, 1, 0, 0, 0, 0, 0]
    pixels, _ = read_split(records, "test")
    assert pixels.shape == (3, 12, 16, 3)


def test_a_source_that_changes_while_it_is_read_is_refused(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, encode: Any
) -> None:
    other = encode(Image.new("RGB", (20, 20)), "PNG")

    class Changing(memory_source):  # type: ignore[misc]
        reads = 0

        def read(self, position: int) -> bytes:
            self.reads += 1
            return other if self.reads > 2 * len(images) else bytes(super().read(position))

    with pytest.raises(DataError, match="changed while it was read"):
        prepare_source(Changing(images), settings(), tmp_path, threads=1)
    assert not list(tmp_path.rglob("manifest.json"))


def test_digits_need_nothing_but_the_package(tmp_path: Path) -> None:
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

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.prepare.sources import Folder
from optduel.components.records import Records
from optduel.components.settings import Data, FolderSource, Split

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]
ReadSplit = Callable[[Records, str], tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def bad_folder(image_folder: Path) -> Path:
    """The readable images and one of each kind of unusable file."""
    jpeg = (image_folder / "daisy" / "0.jpg").read_bytes()
    (image_folder / "daisy" / "empty.jpg").touch()
    (image_folder / "daisy" / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (image_folder / "roses" / "corrupt.jpg").write_bytes(jpeg[:20] + bytes(200) + jpeg[220:])
    (image_folder / "roses" / "page.jpg").write_text("<html>not found</html>")
    (image_folder / "tulips" / "notes.txt").write_text("x")
    return image_folder


BAD = [
    "daisy/cut.jpg",
    "daisy/empty.jpg",
    "roses/corrupt.jpg",
    "roses/page.jpg",
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
        "image folder My Flowers: 5 problem(s); mend them, or leave them out with data.skip_corrupt = true"
    )
    assert [line.partition(":")[0] for line in lines] == BAD
    reasons = dict(line.split(": ", 1) for line in lines)
    assert reasons["daisy/empty.jpg"] == "is empty (0 bytes)"
    assert reasons["daisy/cut.jpg"].startswith("is damaged or cut off")
    assert reasons["roses/corrupt.jpg"].startswith("is damaged or cut off")
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
    with pytest.raises(StorageError, match="daisy/0.jpg: cannot be read: No such file or directory"):
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
    images: Images, memory_source: Any, settings: Settings, read_split: ReadSplit, tmp_path: Path
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

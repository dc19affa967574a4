"""An image folder in a store gives the records that the same folder gives on this machine."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.prepare.sources import StoredFolder
from optduel.components.settings import Data, FolderSource
from optduel.components.storage import Upload, join, publish, upload
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place

Settings = Callable[..., Data]


def put(folder: Path, root: str) -> str:
    """Copies a folder and what its links lead to."""
    target = f"{root}/{folder.name}"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    upload([Upload(path, f"{target}/{path.relative_to(folder)}") for path in files])
    return target


def test_the_same_folder_gives_the_same_records(
    image_folder: Path, settings: Settings, place: Place, tmp_path: Path
) -> None:
    local = prepare_records(settings(source=FolderSource(path=str(image_folder))), str(tmp_path / "root"))
    data = settings(source=FolderSource(path=put(image_folder, place.root) + "/"))
    stored = prepare_records(data, str(tmp_path / "other"))
    assert stored.manifest == local.manifest
    for shard in (shard for split in local.manifest.splits.values() for shard in split.shards):
        assert stored.path(shard).read_bytes() == local.path(shard).read_bytes()


def test_the_same_problems_are_found(
    image_folder: Path, settings: Settings, place: Place, tmp_path: Path
) -> None:
    (image_folder / "beside.png").write_bytes(b"x")
    (image_folder / "README.txt").write_bytes(b"x")
    (image_folder / ".hidden.png").write_bytes(b"x")
    (image_folder / "daisy" / ".hidden.png").write_bytes(b"x")
    (image_folder / "daisy" / "notes.txt").write_bytes(b"x")
    (image_folder / "daisy" / "damaged.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (image_folder / "daisy" / "tab\there.png").write_bytes(b"x")
    (image_folder / ".thumbnails").mkdir()
    (image_folder / ".thumbnails" / "1.png").write_bytes(b"x")
    local = prepare_records(
        settings(source=FolderSource(path=str(image_folder)), skip_corrupt=True), str(tmp_path / "root")
    )
    (image_folder / "daisy" / "tab\there.png").unlink()  # no store takes this name from us
    stored = StoredFolder(FolderSource(path=put(image_folder, place.root)))
    expected = [skipped for skipped in local.manifest.skipped if "damaged" not in skipped.image]
    assert sorted(stored.problems, key=lambda skipped: skipped.image) == [
        skipped for skipped in expected if "tab" not in skipped.image
    ]
    assert stored.classes == local.manifest.classes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no such folder"),
        (["a.png"], "has no class folders; put the images of each class into a folder of its own"),
        (["a/1.png"], "has one class folder, a; a classifier needs two or more"),
        (
            ["a/1.png", "b/1.txt"],
            "1 class\\(es\\) without images; add images or remove the folder\n"
            "b: has 1 that cannot be read, b/1.txt: is not an image file",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(place: Place, names: list[str], message: str) -> None:
    folder = f"{place.root}/folder"
    for name in names:
        publish(join(folder, name), b"x")
    with pytest.raises(DataError, match=f"data.source.path = {folder}: {message}"):
        StoredFolder(FolderSource(path=folder))


def test_a_bucket_that_cannot_be_read_is_no_missing_folder(place: Place) -> None:
    place.proxy.inject(Fault(answer=Answer(403, {}, b""), times=100))
    with pytest.raises(StorageError, match="HTTP 403"):
        StoredFolder(FolderSource(path=f"{place.root}/folder"))


def test_an_image_that_cannot_be_fetched_is_no_corrupt_one(
    image_folder: Path, settings: Settings, place: Place, tmp_path: Path
) -> None:
    source = FolderSource(path=put(image_folder, place.root))
    place.proxy.inject(
        Fault(answer=Answer(403, {}, b""), methods=("GET",), pattern=r"daisy(/|%2F)3", times=9)
    )
    with pytest.raises(StorageError, match="daisy/3.jpg: HTTP 403"):
        prepare_records(settings(source=source, skip_corrupt=True), str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()


def test_an_image_that_is_damaged_on_the_way_is_fetched_again(
    image_folder: Path, settings: Settings, place: Place, tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    (image_folder / "daisy" / "new.png").write_bytes(encode(Image.new("RGB", (9, 9), "red"), "PNG"))
    local = prepare_records(settings(source=FolderSource(path=str(image_folder))), str(tmp_path / "root"))
    source = FolderSource(path=put(image_folder, place.root))
    fault = place.proxy.inject(Fault(flip=True, methods=("GET",), pattern=r"daisy(/|%2F)new"))
    assert prepare_records(settings(source=source), str(tmp_path / "other")).manifest == local.manifest
    assert fault.happened == 1

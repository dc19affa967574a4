"""Folders that are not one folder of images for each class: never left out, always named."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.prepare.sources import Folder, StoredFolder
from optduel.components.records import Records
from optduel.components.settings import Data, FolderSource
from optduel.components.storage import Upload, upload
from tests.servers.places import Place

Settings = Callable[..., Data]


def prepared(folder: Path, root: Path, settings: Settings, **fields: object) -> Records:
    return prepare_records(settings(source=FolderSource(path=str(folder)), **fields), str(root))


def images_of(records: Records) -> int:
    return sum(split.records for split in records.manifest.splits.values())


# --- structure is never skipped -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("link", "violets: is a link that leaves the folder or leads nowhere"),
        ("broken link", "violets: is a link that leaves the folder or leads nowhere"),
        ("not text", "'violets\\udcff': has a name with unprintable characters: rename it"),
        ("control character", r"'vio\\nlets': has a name with unprintable characters: rename it"),
        ("nested", "roses/more: is a folder inside a class folder: move its images up, or make it a class"),
        (
            "nested link",
            "roses/more: is a folder inside a class folder: move its images up, or make it a class",
        ),
    ],
)
def test_a_class_never_vanishes(
    image_folder: Path, tmp_path: Path, settings: Settings, kind: str, line: str
) -> None:
    violets = (image_folder / "roses").rename(tmp_path / "violets")
    (image_folder / "roses").mkdir()
    (image_folder / "roses" / "0.jpg").write_bytes((violets / "0.jpg").read_bytes())
    match kind:
        case "link":
            (image_folder / "violets").symlink_to(violets)
        case "broken link":
            (image_folder / "violets").symlink_to("nowhere")
        case "not text":
            os.rename(violets, os.fsencode(image_folder) + b"/violets\xff")
        case "control character":
            violets.rename(image_folder / "vio\nlets")
        case "nested":
            violets.rename(image_folder / "roses" / "more")
        case "nested link":
            (image_folder / "roses" / "more").symlink_to(violets)
    with pytest.raises(DataError) as caught:
        prepared(image_folder, tmp_path / "root", settings, skip_corrupt=True)
    head, *lines = str(caught.value).splitlines()
    assert head == (
        f"data.source.path = {image_folder}: 1 folder(s) out of place; each class is one folder of images; "
        "data.skip_corrupt leaves out single files only"
    )
    assert lines == [line.replace(r"\\", "\\").replace("'violets\\udcff'", ascii("violets\udcff"))]


def test_a_link_to_a_class_folder_within_the_folder_is_a_class(
    image_folder: Path, tmp_path: Path, settings: Settings
) -> None:
    (image_folder / ".kept").mkdir()
    (image_folder / "roses").rename(image_folder / ".kept" / "roses")
    (image_folder / "roses").symlink_to(".kept/roses")
    records = prepared(image_folder, tmp_path / "root", settings)
    assert records.manifest.classes == ("daisy", "roses", "tulips")
    assert images_of(records) == 24


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2026-11-28 at 3.14.15\u202fPM",
        "no\u00a0break",
        "ideographic\u3000space",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\U0001f469\u200d\U0001f33e",  # an emoji, with a joiner
    ],
    ids=ascii,
)
def test_spaces_of_every_width_and_joiners_are_names(
    image_folder: Path, tmp_path: Path, settings: Settings, name: str
) -> None:
    (image_folder / "daisy" / "0.jpg").rename(image_folder / "daisy" / f"{name}.jpg")
    (image_folder / "roses").rename(image_folder / name)
    records = prepared(image_folder, tmp_path / "root", settings)
    assert sorted(records.manifest.classes) == sorted(("daisy", name, "tulips"))
    assert images_of(records) == 24
    assert not records.manifest.skipped


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir", ".DS_Store", "Icon\r"])
@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("place", ["", "daisy"])
def test_what_systems_leave_behind_is_ignored(
    image_folder: Path, name: str, is_folder: bool, place: str
) -> None:
    left = image_folder / place / name
    if is_folder:
        left.mkdir()
        (left / "._0.jpg").write_bytes(b"x")
        (left / "0.jpg").write_bytes(b"x")
    else:
        left.write_bytes(b"x")
    source = Folder(FolderSource(path=str(image_folder)))
    assert source.classes == ("daisy", "roses", "tulips")
    assert len(source.examples) == 24
    assert not source.problems


def test_a_store_has_the_same_structure_or_the_same_refusal(image_folder: Path, place: Place) -> None:
    def put(folder: Path) -> str:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        upload([Upload(path, f"{place.root}/{folder.name}/{path.relative_to(folder)}") for path in files])
        return f"{place.root}/{folder.name}"

    (image_folder / "Thumbs.db").write_bytes(b"x")
    (image_folder / "__MACOSX").mkdir()
    (image_folder / "__MACOSX" / "0.jpg").write_bytes(b"x")
    (image_folder / "daisy" / "0.jpg").rename(image_folder / "daisy" / "at 3\u202fPM.jpg")
    (image_folder / "roses").rename(image_folder / "ro\u3000ses")
    stored = StoredFolder(FolderSource(path=put(image_folder)))
    local = Folder(FolderSource(path=str(image_folder)))
    assert stored.classes == local.classes
    assert {example.id for example in stored.examples} == {example.id for example in local.examples}
    assert not stored.problems
    (image_folder / "daisy" / "more" / "deeper").mkdir(parents=True)
    (image_folder / "daisy" / "more" / "deeper" / "0.jpg").write_bytes(b"x")
    with pytest.raises(
        DataError, match="1 folder.* out of place; .*\ndaisy/more: is a folder inside a class"
    ):
        StoredFolder(FolderSource(path=put(image_folder)))


# --- folders of splits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"),
        ("Train", "Valid", "Test"),
        ("training_set", "test-set"),
        ("train", "validation", "labels"),
        ("train_images", "test_images"),
    ],
)
def test_splits_are_no_classes(image_folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    flat = tmp_path / "flat"
    for name in names:
        (flat / name).mkdir(parents=True)
        (flat / name / "0.jpg").write_bytes((image_folder / "daisy" / "0.jpg").read_bytes())
    with pytest.raises(DataError) as caught:
        Folder(FolderSource(path=str(flat)))
    splits = ", ".join(sorted(name for name in names if name != "labels"))
    assert str(caught.value) == (
        f"data.source.path = {flat}: {splits} are splits, not classes; put the images of each class into a "
        "folder of its own: data.split makes the splits"
    )


@pytest.mark.parametrize("names", [("train", "bus", "tram"), ("tested", "trains"), ("test", "control")])
def test_classes_may_be_named_like_one_split(
    image_folder: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = tmp_path / "vehicles"
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "0.jpg").write_bytes((image_folder / "daisy" / "0.jpg").read_bytes())
    assert Folder(FolderSource(path=str(folder))).classes == tuple(sorted(names))


# --- what is no damage -------------------------------------------------------------------------------


class Failing(Folder):
    """A folder whose disk fails, or whose file has become a pipe."""

    error: OSError

    def read(self, position: int) -> bytes:
        if position == 3:
            raise self.error
        return super().read(position)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (PermissionError(13, "Permission denied"), "denied"),
    ],
)
def test_an_image_that_cannot_be_read_is_no_corrupt_one(
    image_folder: Path, tmp_path: Path, settings: Settings, error: OSError, words: str
) -> None:
    source = Failing(FolderSource(path=str(image_folder)))
    source.error = error
    with pytest.raises(
        StorageError, match=f"My Flowers: daisy/3.jpg: cannot be read: .*{words}; grant access"
    ):
        prepare_source(source, settings(skip_corrupt=True), tmp_path / "root", threads=1)
    assert not (tmp_path / "root").exists()


def test_a_pipe_that_takes_the_place_of_an_image_does_not_hang(
    image_folder: Path, tmp_path: Path, settings: Settings
) -> None:
    source = Folder(FolderSource(path=str(image_folder)))
    (image_folder / "daisy" / "0.jpg").unlink()
    os.mkfifo(image_folder / "daisy" / "0.jpg")
    with pytest.raises(StorageError, match="daisy/0.jpg: cannot be read: is no longer a regular file"):
        prepare_source(source, settings(skip_corrupt=True), tmp_path / "root", threads=1)


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "loop/in"])
def test_a_place_that_cannot_be_looked_at_is_one_message(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((DataError, StorageError), match="(NUL character|File name too long|symbolic links)"):
        Folder(FolderSource(path=f"{tmp_path}/{path}"))


def test_omissions_are_told_and_counted_as_files(
    image_folder: Path, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(7):
        (image_folder / "daisy" / f"empty-{index}.jpg").touch()
    for _ in range(2):  # once when they are made, once when they are there
        prepared(image_folder, tmp_path / "root", settings, skip_corrupt=True)
        told = capsys.readouterr().err
        assert "left out 7 file(s), which the manifest lists with reasons:" in told
        assert "daisy/empty-4.jpg: is empty (0 bytes)" in told
        assert "... and 2 more" in told

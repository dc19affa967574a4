import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.sources import Folder
from optduel.components.settings import FolderSource

Encode = Callable[..., bytes]


def opened(folder: Path) -> Folder:
    return Folder(FolderSource(path=str(folder)))


def problems(folder: Path) -> dict[str, str]:
    return {problem.image: problem.reason for problem in opened(folder).problems}


def test_classes_are_the_sorted_folders_and_labels_their_places(image_folder: Path) -> None:
    source = opened(image_folder)
    assert source.name == "my-flowers"
    assert source.classes == ("daisy", "roses", "tulips")
    assert len(source.examples) == 24
    assert not source.problems
    for position, example in enumerate(source.examples):
        assert example.id.partition("/")[0] == source.classes[example.label]
        assert source.read(position) == (image_folder / example.id).read_bytes()


def test_hidden_files_and_files_beside_the_classes_are_ignored(image_folder: Path) -> None:
    (image_folder / ".DS_Store").write_bytes(b"x")
    (image_folder / "daisy" / "._0.jpg").write_bytes(b"x")
    (image_folder / ".git").mkdir()
    (image_folder / "LICENSE.txt").write_text("CC BY 2.0")
    source = opened(image_folder)
    assert source.classes == ("daisy", "roses", "tulips")
    assert len(source.examples) == 24
    assert not source.problems


def test_what_is_no_image_is_named_with_its_reason(image_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes((image_folder / "daisy" / "0.jpg").read_bytes())
    (image_folder / "daisy" / "notes.txt").write_text("x")
    (image_folder / "daisy" / "away.jpg").symlink_to(outside)
    (image_folder / "daisy" / "gone.jpg").symlink_to("nothing.jpg")
    (image_folder / "elsewhere.jpg").symlink_to(outside)
    (image_folder / "stray.png").write_bytes(b"x")
    (image_folder / "roses" / "two\nlines.jpg").write_bytes(b"x")
    os.mkfifo(image_folder / "roses" / "pipe.jpg")
    assert problems(image_folder) == {
        "daisy/notes.txt": "is not an image file: their names end in "
        ".jpg .jpeg .png .gif .bmp .webp .tif .tiff .heic .heif .avif",
        "daisy/away.jpg": "is a link that leaves the folder or leads nowhere",
        "daisy/gone.jpg": "is a link that leaves the folder or leads nowhere",
        "elsewhere.jpg": "lies beside the class folders: move it into the folder of its class",
        "stray.png": "lies beside the class folders: move it into the folder of its class",
        "'roses/two\\nlines.jpg'": "has a name with unprintable characters: rename it",
        "roses/pipe.jpg": "is not a regular file",
    }


def test_a_name_that_is_not_text_is_a_problem(image_folder: Path) -> None:
    os.close(os.open(os.fsencode(image_folder) + b"/daisy/\xff.jpg", os.O_CREAT | os.O_WRONLY))
    assert problems(image_folder) == {
        "'daisy/\\udcff.jpg'": "has a name with unprintable characters: rename it"
    }


def test_a_link_within_the_folder_is_followed(image_folder: Path) -> None:
    (image_folder / "roses" / "again.jpg").symlink_to("../daisy/0.jpg")
    source = opened(image_folder)
    position = [example.id for example in source.examples].index("roses/again.jpg")
    assert source.read(position) == (image_folder / "daisy" / "0.jpg").read_bytes()
    assert not source.problems


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source\.path = .*/nowhere: no such folder"):
        opened(tmp_path / "nowhere")


def test_a_folder_without_classes_is_named(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DataError, match="has no class folders; put the images of each class into a folder"):
        opened(tmp_path)


def test_one_class_is_too_few(tmp_path: Path, encode: Encode) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.png").write_bytes(encode(Image.new("L", (4, 4)), "PNG"))
    with pytest.raises(DataError, match="has one class folder, only; a classifier needs two or more"):
        opened(tmp_path)


def test_every_class_without_images_is_named(image_folder: Path) -> None:
    (image_folder / "violets").mkdir()
    (image_folder / "asters").mkdir()
    (image_folder / "asters" / "notes.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        opened(image_folder)
    head, *names = str(caught.value).splitlines()
    assert head.endswith("2 class(es) without images; add images or remove the folder")
    (asters, violets) = names
    assert asters.startswith("asters: has 1 that cannot be read, asters/notes.txt: is not an image file")
    assert violets == "violets"


def test_an_unsupported_place_is_refused() -> None:
    with pytest.raises(StorageError, match="has a scheme that is not supported"):
        Folder(FolderSource(path="ftp://host/flowers"))


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Flowers_2024 (final)", "flowers-2024-final"), ("花", "images"), ("a" * 60, "a" * 40), ("-x-", "x")],
)
def test_the_data_set_is_named_after_the_folder(
    tmp_path: Path, image_folder: Path, name: str, slug: str
) -> None:
    assert opened(image_folder.rename(tmp_path / name)).name == slug

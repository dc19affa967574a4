"""`optduel data` tells what a data set holds, and what would become of it, and makes no records."""

import json
from pathlib import Path

import pytest

from optduel.components.prepare.look import look_at
from optduel.components.settings import Data, FolderSource
from optduel.pipeline.cli.command_line import main
from tests.prepare.conftest import encode_picture, make_picture
from tests.prepare.test_card import Page


def data_of(folder: Path, **fields: object) -> Data:
    return Data.model_validate({"source": FolderSource(path=str(folder)), "image_size": (64, 64)} | fields)


def test_a_sound_folder_is_described(image_folder: Path, tmp_path: Path) -> None:
    seen = look_at(data_of(image_folder), tmp_path / "root")
    assert seen.sentence == (
        "24 images of 3 classes (18 train, 3 validation, 3 test); none would be left out"
    )
    assert seen.refusal is None
    assert dict(seen.facts) == {
        "formats": "JPEG 9, PNG 9, WebP 6",
        "width x height": "median 33 x 21, from 24 x 20 to 42 x 22",
    }
    page = Page(seen.page)
    for words in (
        "Images of my-flowers",
        "image folder My Flowers",
        "24 in 3 classes",
        "JPEG 9",
        "daisy",
        "tulips",
    ):
        assert words in page.text
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe"})
    assert not (tmp_path / "root").exists()


def test_what_is_odd_and_what_would_be_left_out_is_told(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "Daisy").mkdir()
    for index in range(4):
        (image_folder / "Daisy" / f"{index}.jpg").write_bytes(encode_picture(make_picture(90 + index), "PNG"))
    (image_folder / "tulips" / "copy.jpg").write_bytes((image_folder / "roses" / "0.jpg").read_bytes())
    (image_folder / "tulips" / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    frames = [make_picture(seed) for seed in range(2)]
    (image_folder / "tulips" / "moving.gif").write_bytes(
        encode_picture(frames[0], "GIF", save_all=True, append_images=frames[1:])
    )
    seen = look_at(data_of(image_folder), tmp_path / "root")
    assert "; 1 would be left out; 2 are copies of one another;" in seen.sentence
    assert seen.sentence.endswith(
        "cannot be used as it is: 1 file(s) cannot be used, tulips/pointer.jpg: is a git-lfs pointer, not "
        "the image: run `git lfs pull` where it was cloned"
    )
    assert seen.cautions == [
        "Classes Daisy and daisy differ only by case: are they one?",
        "2 images have copies with another class, so that not all labels can be right.",
    ]
    text = Page(seen.page).text
    assert text.index("Classes Daisy and daisy") < text.index("formats")
    assert (
        "4 images, each of which has the ending of another format, and is read as what it is: "
        "Daisy/0.jpg is PNG, Daisy/1.jpg is PNG, Daisy/2.jpg is PNG and 1 more." in text
    )
    assert "1 image holds several frames or pages, of which the first is taken: tulips/moving.gif." in text


def test_what_cannot_be_divided_is_shown_all_the_same(image_folder: Path, tmp_path: Path) -> None:
    for path in list((image_folder / "roses").iterdir())[1:]:
        path.unlink()
    seen = look_at(data_of(image_folder), tmp_path / "root")
    assert seen.refusal is not None
    assert "class roses: train 1, validation 0, test 0" in seen.refusal
    assert "17 images of 3 classes" in seen.sentence


def test_the_command_prints_the_answer_and_writes_the_card(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", str(image_folder)]) == 0
    answer, page, address = capsys.readouterr().out.splitlines()
    assert answer.startswith("24 images of 3 classes (")
    assert page == f"page: {tmp_path / 'data.html'}"
    assert address.startswith("address: file:///")
    assert "Images of my-flowers" in (tmp_path / "data.html").read_text()
    assert (
        main(["data", str(image_folder), "--set", "split={train: 0.5, validation: 0.5, test: 0}", "--json"])
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is True
    assert document["splits"] == {"train": [4, 4, 4], "validation": [4, 4, 4]}
    assert document["classes"] == ["daisy", "roses", "tulips"]


def test_a_source_can_be_a_table_fields_or_an_experiment(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{path.relative_to(image_folder)},{path.parent.name}" for path in image_folder.rglob("*.*")]
    (image_folder / "labels.csv").write_text("\n".join(["where,label", *rows]))
    for source, code in (
        (f"{image_folder}/labels.csv", 2),
        (f"{{kind: table, path: '{image_folder}/labels.csv', image: where}}", 0),
        (f"{{kind: table, path: '{image_folder}/labels.csv', imgae: where}}", 2),
        (str(tmp_path / "nowhere"), 2),
        ("digits", 0),
    ):
        assert main(["data", source]) == code, source
    assert "1797 images of 10 classes" in capsys.readouterr().out


def test_check_tells_of_class_names(image_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image_folder / "roses").rename(image_folder / "Cafe\u0301")
    (image_folder / "tulips").rename(image_folder / "Caf\u00e9")
    arguments = ["check", "digits", "--set", f"data.source={{kind: folder, path: '{image_folder}'}}"]
    assert main(arguments) == 0
    named = (
        "Classes Cafe\u0301 (Cafe\\u0301) and Caf\u00e9 (Caf\\xe9) differ only by the Unicode form of their"
    )
    assert f"caution: {named} letters: are they one?\n" in capsys.readouterr().out

"""What is wrong with a table is told at once, with its lines."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optduel.components.core import DataError, ExperimentError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.prepare.sources import Table
from optduel.components.settings import Data, Split, TableSource, decode
from tests.prepare.conftest import CLASSES, encode_picture, make_picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with ten photos, a.png to j.png."""
    (tmp_path / "photos").mkdir()
    for number, letter in enumerate("abcdefghij"):
        (tmp_path / "photos" / f"{letter}.png").write_bytes(encode_picture(make_picture(number), "PNG"))
    return tmp_path / "photos"


def opened(photos: Path, content: str | bytes, name: str = "labels.csv", **fields: Any) -> Table:
    (photos / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Table(TableSource(path=str(photos / name), **fields))


def labelled(table: Table) -> dict[str, str]:
    return {example.id: table.classes[example.label] for example in table.examples}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_and_columns_are_found(photos: Path, delimiter: str) -> None:
    rows = [("Label", "note", "File_Name"), ("cat", "a, b", "a.png"), ("dog", "", "b.png")]
    text = "\r\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    assert labelled(opened(photos, text)) == {"a.png": "cat", "b.png": "dog"}


def test_columns_can_be_named(photos: Path) -> None:
    text = "id,what,where\n1,cat,a.png\n2,dog,b.png\n"
    assert labelled(opened(photos, text, image="where", label="what")) == {"a.png": "cat", "b.png": "dog"}
    for fields, message in (
        ({}, "no column is called image; name it in data.source.image: there are id, what, where"),
        (
            {"image": "where", "label": "wat"},
            "data.source.label = wat: no such column; there are id, what, where",
        ),
    ):
        with pytest.raises(DataError, match=message):
            opened(photos, text, **fields)
    with pytest.raises(
        DataError, match="columns path and file could each be the image; name one in data.source"
    ):
        opened(photos, "path,file,label\na.png,a.png,cat\n")


def test_integers_are_classes_in_their_order_or_get_names(photos: Path) -> None:
    text = "path,label\na.png,10\nb.png,9\nc.png,10\n"
    assert opened(photos, text).classes == ("9", "10")
    (photos / "names.txt").write_text("\n".join(f"class {number}" for number in range(11)))
    table = opened(photos, text, names=str(photos / "names.txt"))
    assert labelled(table) == {"a.png": "class 10", "b.png": "class 9", "c.png": "class 10"}
    assert len(table.classes) == 11


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "gbk"])
def test_encodings_are_found_or_named(photos: Path, encoding: str) -> None:
    labels = ("花", "草") if encoding == "gbk" else ("Blüte", "Gräser")
    content = f"path,label\na.png,{labels[0]}\nb.png,{labels[1]}\n".encode(encoding)
    if encoding in ("cp1252", "gbk"):
        with pytest.raises(DataError, match="line 2 is not utf-8; name the encoding in data.source.encoding"):
            opened(photos, content)
        assert set(opened(photos, content, encoding=encoding).classes) == set(labels)
    else:
        assert set(opened(photos, content).classes) == set(labels)


def test_every_problem_is_told_at_once_with_its_line(photos: Path, tmp_path: Path) -> None:
    text = """path,label,split
a.png,cat,train
gone.png,cat,train
a.png,cat,train
b.png, dog,train
c.png,dog,train
c.png,cat,train
,cat,train
d.png,,train
e.png,dog,later
../names.txt,dog,train
"f
g.png",dog,train
https://host/x.png,dog,train
f.png,dog,test
g.png,cat,test
"""
    table = opened(photos, text)
    assert {problem.image: problem.reason for problem in table.problems} == {
        "line 3: gone.png": "no such file",
        "line 4: a.png": "is the image of line 2 again",
        "line 5: b.png": "has the label ' dog', with blanks around it",
        "line 6: c.png": "has the label 'dog' here and 'cat' in line 7",
        "line 7: c.png": "has the label 'cat' here and 'dog' in line 6",
        "line 8: ": "names no image",
        "line 9: d.png": "has no label",
        "line 10: e.png": "has the split 'later'; known are train, validation, test",
        "line 11: ../names.txt": "leads out of the table's folder: put the images below it, or give URIs",
        "'line 13: f\\ng.png'": "no such file",
        "line 14: https://host/x.png": (
            "https://host/x.png: has a scheme that is not supported; give a directory"
        ),
    }
    data = Data(source=TableSource(path=str(photos / "labels.csv")), image_size=(8, 8))
    with pytest.raises(DataError) as caught:
        prepare_records(data, str(tmp_path / "root"))
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("image table labels.csv: 11 problem(s); mend them, or leave them out with")
    assert "line 3: gone.png: no such file" in lines
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "no column is called image"),
        ("x.csv", "path,label\na.png,cat\nb.png\n", "line 3 has 1 cells, the first one has 2"),
        ("x.csv", 'path,label\n"a.png,cat\n', "line 2 cannot be read"),
        ("x.jsonl", '{"path": "a.png"', "line 1 is no JSON; write an object for each image in a line"),
        ("x.json", '[{"path": "a.png", "label": "cat"}]', "line 1 is no object; write one for each image"),
        ("x.parquet", "PAR1 no", "cannot be read as Parquet"),
        ("x.xlsx", "PK", "is no table; give a file .csv, .tsv, .jsonl or .parquet, or a folder of Parquet"),
        ("x.csv", "path,label\na.png,cat\nb.png,cat\n", "has usable images of 1 class"),
    ],
)
def test_what_is_no_table_is_one_message(photos: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened(photos, content, name)
    assert str(caught.value).startswith(f"data.source.path = {photos / name}: ")
    assert "\n" not in str(caught.value)


def test_labels_of_other_kinds_are_told(photos: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "a.png", "label": "cat"},
        {"path": "b.png", "label": 1.5},
        {"path": "c.png", "label": True},
        {"path": "d.png"},
        {"path": "e.png", "label": 7},
        {"path": 5, "label": 7},
        {"path": "f.png", "label": "two\nlines"},
    ]
    table = opened(photos, "\n".join(json.dumps(row) for row in rows), "labels.jsonl")
    assert labelled(table) == {"a.png": "cat", "e.png": "7"}
    assert [problem.image for problem in table.problems] == [
        "line 2: b.png",
        "line 3: c.png",
        "line 4: d.png",
        "line 6: image",
        "line 7: f.png",
    ]


def test_groups_that_the_table_divides_are_refused_with_their_lines(photos: Path) -> None:
    lines = ["path,label,split,group", "a.png,cat,train,p1", "b.png,dog,train,p2", "c.png,cat,test,p1"]
    with pytest.raises(DataError) as caught:
        opened(photos, "\n".join([*lines, "d.png,dog,test,p3"]))
    head, line = str(caught.value).splitlines()
    assert head.endswith(
        "1 group(s) in several splits; images of one group may not lie in two splits; correct the column "
        "split, or leave it out"
    )
    assert line == "group p1: train (line 2), test (line 4)"


def test_groups_stay_whole_and_a_missing_split_is_drawn_from_train(photos: Path, tmp_path: Path) -> None:
    rows = []
    for number in range(90):
        (photos / f"{number}.png").write_bytes(encode_picture(make_picture(number), "PNG"))
        split = "test" if number >= 72 else "train"
        rows.append(f"{number}.png,{CLASSES[number % 3]},{split},patient {number // 6}")
    (photos / "labels.csv").write_text("\n".join(["path,label,split,group", *rows]))
    data = Data(
        source=TableSource(path=str(photos / "labels.csv")),
        image_size=(8, 8),
        split=Split(train=0.75, validation=0.25, test=0),
    )
    records = prepare_records(data, str(tmp_path / "root"))
    counts = {name: split.class_counts for name, split in records.manifest.splits.items()}
    assert counts == {"train": (18, 18, 18), "validation": (6, 6, 6), "test": (6, 6, 6)}
    assert records.manifest.remarks[:2] == (
        "The source declares train, test; validation was drawn from its training images, by data.split.",
        "15 groups of images are kept whole, each in one split.",
    )
    regrouped = (photos / "labels.csv").read_text().replace("patient 0", "patient 1")
    (photos / "labels.csv").write_text(regrouped)
    again = prepare_records(data, str(tmp_path / "root"))
    assert again.manifest.fingerprint != records.manifest.fingerprint


def test_images_within_a_parquet_file_are_named_by_their_rows(tmp_path: Path) -> None:
    encoded = [encode_picture(make_picture(number), "PNG") for number in range(20)]
    encoded[3] = encoded[3][:100]
    cells = [{"image": content, "label": number % 2} for number, content in enumerate(encoded)]
    cells[5]["label"] = None
    pq.write_table(pa.Table.from_pylist(cells), tmp_path / "images.parquet")
    data = Data(source=TableSource(path=str(tmp_path / "images.parquet")), image_size=(8, 8))
    with pytest.raises(DataError) as caught:
        prepare_records(data, str(tmp_path / "root"))
    assert "\nrow 4: is damaged or cut off" in str(caught.value)
    assert "\nrow 6: image: has no label" in str(caught.value)


@pytest.mark.parametrize("field", ["delimiter", "path"])
def test_a_table_has_settings_that_are_checked(field: str) -> None:
    wrong: dict[str, Any] = {"kind": "table", "path": "x.csv", field: "" if field == "delimiter" else None}
    with pytest.raises(ExperimentError, match=f"source.{field}"):
        decode(Data, json.dumps({"source": wrong, "image_size": [8, 8]}), "data")

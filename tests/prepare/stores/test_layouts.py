"""Folders, archives, buckets and tables of the same images give the same records."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records
from optduel.components.settings import Data, FolderSource, Split, TableSource
from optduel.components.storage import Upload, upload
from tests.prepare.conftest import fill_folder
from tests.servers.places import PlaceOf

Settings = Callable[..., Data]
CLASSES = ("daisy", "roses", "tulips")
LAYOUTS = ("class", "split")
DECLARED = {"train": "train", "valid": "validation", "test": "test"}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same images as class folders, and other ones as train, valid and test with class folders."""
    root = tmp_path_factory.mktemp("trees")
    for number, split in enumerate(DECLARED):
        folder = fill_folder(root / "draft", per_class=3 * (3 - number))
        (root / "split").mkdir(exist_ok=True)
        folder.rename(root / "split" / split)
        for path in (root / "split" / split).rglob("*.*"):
            path.write_bytes(path.read_bytes() + bytes([number]))  # readers pass over what follows an image
    return {"class": fill_folder(root / "class"), "split": root / "split"}


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.*") if path.is_file() and path.stem != "labels")


def as_tar(folder: Path, target: Path) -> str:
    with tarfile.open(target, f"w:{target.suffix[1:].removesuffix('tar')}") as archive:
        archive.add(folder, arcname="some/where")
    return str(target)


def as_zip(folder: Path, target: Path) -> str:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_of(folder):
            archive.write(path, path.relative_to(folder))
    return str(target)


def as_bucket(folder: Path, root: str) -> str:
    upload([Upload(path, f"{root}/images/{path.relative_to(folder)}") for path in files_of(folder)])
    return f"{root}/images"


def rows_of(folder: Path, layout: str) -> list[dict[str, Any]]:
    rows = []
    for path in files_of(folder):
        parts = path.relative_to(folder).parts
        row = {"path": "/".join(parts), "label": parts[-2]}
        rows.append(row | ({"split": parts[0]} if layout == "split" else {}))
    return rows


def as_table(folder: Path, layout: str, kind: str, target: Path) -> str:
    rows = rows_of(folder, layout)
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
        (folder / "labels.csv").write_text("\ufeff" + text.getvalue(), encoding="utf-8")
        return str(folder / "labels.csv")
    if kind == "jsonl":
        (folder / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in reversed(rows)))
        return str(folder / "labels.jsonl")
    target.mkdir()
    feature = {"_type": "ClassLabel", "names": list(CLASSES)}
    schema = pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": {"label": feature}}})},
    )
    for split in DECLARED.values() if layout == "split" else ("train",):
        chosen = [row for row in rows if layout == "class" or DECLARED[row["split"]] == split]
        cells = [
            {
                "image": {"bytes": (folder / row["path"]).read_bytes(), "path": row["path"]},
                "label": CLASSES.index(row["label"]),
            }
            for row in chosen
        ]
        pq.write_table(pa.Table.from_pylist(cells, schema), target / f"{split}-00000-of-00001.parquet")
    return str(target)


def shards_of(records: Records) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in records.folder.glob("*.tfrecord")}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "kind",
    ["tar", "tar.gz", "zip", "gs", "s3", "gs zip", "csv", "jsonl", "parquet", "gs jsonl", "s3 parquet"],
)
def test_every_layout_gives_the_records_of_the_folder(
    trees: dict[str, Path], settings: Settings, place_of: PlaceOf, tmp_path: Path, layout: str, kind: str
) -> None:
    folder = trees[layout]
    data = settings(source=FolderSource(path=str(folder)), split=Split(train=0.6, validation=0.2, test=0.2))
    expected = prepare_records(data, str(tmp_path / "root"))
    store, _, form = kind.rpartition(" ") if " " in kind else ("", "", kind)
    if form in ("tar", "tar.gz"):
        path = as_tar(folder, tmp_path / f"images.{form}")
    elif form == "zip":
        path = as_zip(folder, tmp_path / "images.zip")
    elif form in ("gs", "s3"):
        path = as_bucket(folder, place_of(form).root)
    else:
        path = as_table(folder, layout, form, tmp_path / "data")
    if store:
        root = place_of(store).root
        if form == "jsonl":
            as_bucket(folder, root)
        files = files_of(Path(path)) if Path(path).is_dir() else [Path(path)]
        upload([Upload(file, f"{root}/images/{file.name}") for file in files])
        path = f"{root}/images" if Path(path).is_dir() else f"{root}/images/{Path(path).name}"
    is_table = form in ("csv", "jsonl", "parquet")
    if form == "parquet" and layout == "class":
        path += f"/{'train-00000-of-00001.parquet'}"
    source = TableSource(path=path) if is_table else FolderSource(path=path)
    found = prepare_records(data.model_copy(update={"source": source}), str(tmp_path / "other"))
    assert found.manifest.fingerprint == expected.manifest.fingerprint
    assert shards_of(found) == shards_of(expected)
    counts = {name: split.class_counts for name, split in found.manifest.splits.items()}
    if layout == "split":
        assert counts == {"train": (9, 9, 9), "validation": (6, 6, 6), "test": (3, 3, 3)}
        assert "The splits are the source's own: train, validation, test." in found.manifest.remarks

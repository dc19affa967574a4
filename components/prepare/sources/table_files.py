"""Reads tables of labels: CSV, JSON lines and Parquet, as columns with the place of each row."""

import csv
import io
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optduel.components.core import DataError
from optduel.components.decoding import parse_json, parse_object
from optduel.components.prepare.sources.kept_bytes import KeptBytes
from optduel.components.records import make_room, staging_folder
from optduel.components.settings import TableSource
from optduel.components.storage import Download, download, is_remote, list_entries, local_path, read, stat

TEXT_BYTES_LIMIT = 2**30
"""Bytes of the largest table of text: ten million rows."""

_COLUMNS = {
    "image": ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img"),
    "label": ("label", "class", "category", "target", "class_name"),
    "split": ("split",),
    "group": ("group",),
}
"""Names by which columns are found that the source does not name, in any case."""

_DELIMITERS = ",;\t|"
_CELL_CHARACTERS = 1 << 20
_BATCH_ROWS = 16
_FILE_SPLIT = re.compile(r"(train|valid|val|test|dev)[a-z]*[-_.]", re.IGNORECASE)
"""How the names of Parquet files begin that Hugging Face data sets are exported to."""


@dataclass
class Columns:
    """A table, a value of each list for each row.

    Attributes:
        rows: where each stands, for messages.
        images: paths or URIs, or bytes by their numbers in `kept`, or None.
        labels: as the table has them.
        splits: as the table has them, or empty without such a column.
        groups: the same.
        names: of the labels, where the table itself tells them.
        kept: images that are in the table.
    """

    rows: list[str] = field(default_factory=list)
    images: list[str | int | None] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    splits: list[Any] = field(default_factory=list)
    groups: list[Any] = field(default_factory=list)
    names: list[str] | None = None
    kept: KeptBytes | None = None

    def add(self, row: str, cells: dict[str, Any]) -> None:
        """Takes a row: its cells by what they are."""
        self.rows.append(row)
        self.images.append(cells["image"])
        self.labels.append(cells["label"])
        for name, values in (("split", self.splits), ("group", self.groups)):
            if name in cells:
                values.append(cells[name])


def read_table(source: TableSource, where: str) -> Columns:
    """Reads all rows of a table.

    Args:
        where: names the table in messages.

    Raises:
        DataError: it is no table, lacks a column, or has a row that cannot be read.
        StorageError: it cannot be read.
    """
    suffix = Path(source.path.rstrip("/")).suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return _read_csv(source, where, _text(source, where))
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _read_json_lines(source, where, _text(source, where))
    if suffix == ".parquet":
        return _read_parquet(source, where, [source.path])
    files = (
        [
            entry.uri
            for entry in list_entries(source.path.rstrip("/"))
            if entry.uri.endswith(".parquet") and not entry.uri.rpartition("/")[2].startswith(".")
        ]
        if is_remote(source.path) or local_path(source.path).is_dir()
        else []
    )
    if not files:
        raise DataError(
            f"{where}: is no table; give a file .csv, .tsv, .jsonl or .parquet, or a folder of Parquet files"
        )
    return _read_parquet(source, where, files)


def _text(source: TableSource, where: str) -> str:
    content = read(source.path)
    if len(content) > TEXT_BYTES_LIMIT:
        raise DataError(
            f"{where}: has {len(content):,} bytes, the limit is {TEXT_BYTES_LIMIT:,}; write it as Parquet"
        )
    encoding = source.encoding or ("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        remedy = "name the encoding in data.source.encoding, for example cp1252, gbk or shift_jis"
        raise DataError(f"{where}: line {line} is not {encoding.removesuffix('-sig')}; {remedy}") from error
    except LookupError as error:
        raise DataError(f"data.source.encoding = {source.encoding}: no such encoding") from error


def _find_columns(source: TableSource, where: str, header: Sequence[str]) -> dict[str, str]:
    """The column of each kind: the one that the source names, or that has one of the usual names.

    Raises:
        DataError: a named one is missing, there is none for image or label, or several could be it.
    """
    chosen: dict[str, str] = {}
    listed = ", ".join(header[:30]) or "none"
    for kind, usual in _COLUMNS.items():
        named = getattr(source, kind)
        found = [name for name in header if name == named or (named is None and name.lower() in usual)]
        if len(found) > 1:
            raise DataError(
                f"{where}: columns {' and '.join(found)} could each be the {kind}; name one in "
                f"data.source.{kind}"
            )
        if found:
            chosen[kind] = found[0]
        elif named is not None:
            raise DataError(f"data.source.{kind} = {named}: no such column; there are {listed}")
        elif kind in ("image", "label"):
            raise DataError(
                f"{where}: no column is called {kind}; name it in data.source.{kind}: there are {listed}"
            )
    return chosen


def _read_csv(source: TableSource, where: str, text: str) -> Columns:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = source.delimiter or max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_CELL_CHARACTERS)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    table = Columns()
    try:
        header = next((row for row in reader if row), [])
        chosen = _find_columns(source, where, header)
        places = {kind: header.index(name) for kind, name in chosen.items()}
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{where}: line {reader.line_num} has {len(row)} cells, the first one has {len(header)}; "
                    "quote cells that hold the delimiter"
                )
            table.add(f"line {reader.line_num}", {kind: row[place] for kind, place in places.items()})
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num} cannot be read: {error}") from error
    return table


def _read_json_lines(source: TableSource, where: str, text: str) -> Columns:
    table = Columns()
    chosen: dict[str, str] | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise DataError(
                f"{where}: line {number} is no JSON; write an object for each image in a line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: line {number} is no object; write one for each image in a line")
        chosen = chosen or _find_columns(source, where, list(row))
        cells = {kind: row.get(name) for kind, name in chosen.items()}
        cells["image"] = cells["image"] if isinstance(cells["image"], str) else None
        table.add(f"line {number}", cells)
    return table


def _read_parquet(source: TableSource, where: str, files: Sequence[str]) -> Columns:
    import pyarrow

    table = Columns()
    for file in files:
        with tempfile.TemporaryDirectory(dir=staging_folder()) as folder:
            path = _here(file, Path(folder))
            try:
                _add_parquet(source, where, path, file.rpartition("/")[2] if len(files) > 1 else "", table)
            except (pyarrow.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"{where}: {file} cannot be read as Parquet: {reason}") from error
    return table


def _here(file: str, folder: Path) -> Path:
    if not is_remote(file):
        return local_path(file)
    entry = stat(file)
    if entry is None:
        raise DataError(f"data.source.path = {file}: no such object")
    make_room(2 * entry.bytes, file)
    path = folder / "table.parquet"
    download([Download(file, path, entry.bytes, entry.crc32c)])
    return path


def _add_parquet(source: TableSource, where: str, path: Path, name: str, table: Columns) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        chosen = _find_columns(source, where, file.schema_arrow.names)
        table.names = table.names or _told_names(file.schema_arrow.metadata, chosen["label"])
        by_name = _FILE_SPLIT.match(name) if "split" not in chosen else None
        number = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(chosen.values())):
            columns = {kind: batch.column(name).to_pylist() for kind, name in chosen.items()}
            for cells in _rows(columns):
                number += 1
                row = f"{name} row {number}".strip()
                if by_name:
                    cells["split"] = by_name[1]
                cells["image"] = _image_of(cells["image"], table)
                table.add(row, cells)


def _rows(columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _image_of(cell: Any, table: Columns) -> str | int | None:
    """A path, or the number of bytes that are kept."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes):
        table.kept = table.kept or KeptBytes()
        return table.kept.add(content)
    path = cell.get("path") if isinstance(cell, dict) else cell
    return path if isinstance(path, str) else None


def _told_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    """The names of the labels, as Hugging Face's library `datasets` writes them into a Parquet file."""
    try:
        features = parse_object((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


def read_names(place: str) -> list[str]:
    """The names of integer labels: a line of text for each, from label 0 on.

    Raises:
        DataError: it is no text, or names a label twice.
        StorageError: it cannot be read.
    """
    where = f"data.source.names = {place}"
    try:
        names = read(place).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8") from error
    doubled = {name for name in names if names.count(name) > 1} if len(names) < 100_000 else set()
    if doubled or not names:
        raise DataError(
            f"{where}: names {', '.join(sorted(doubled)) or 'no label'} twice; write a line for each label"
        )
    return names

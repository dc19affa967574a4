"""Writes rows as people and programs read them: aligned text, CSV or JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optduel.components.redaction import printable

ABSENT = "-"

_FORMULA = ("=", "+", "-", "@")
"""What spreadsheets compute begins with one of these."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A column of a text table: its heading, the field it shows, and how; None is always a dash."""

    heading: str
    field: str
    text: Callable[[Any], str] = str


def as_text(records: Sequence[Record], columns: Sequence[Shown]) -> str:
    """A table with a line for each record; numbers end in one column, words begin in one.

    Whatever a record holds, it stays in its cell: line ends, escapes of terminals and the like are shown.
    """
    cells = [[column.heading for column in columns]]
    for record in records:
        values = [record[column.field] for column in columns]
        cells.append(
            [
                ABSENT if value is None else _cell(column.text(value))
                for column, value in zip(columns, values, strict=True)
            ]
        )
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    words = [any(isinstance(record[column.field], str) for record in records) for column in columns]
    lines = [
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(line, widths, words, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines) + "\n"


def as_csv(records: Sequence[Record]) -> str:
    """CSV with a header (RFC 4180, but lines end as on this system); None is empty, a list has spaces.

    Text that a spreadsheet would take for a formula follows an apostrophe.
    """
    if not records:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                field: _inert(" ".join(value) if isinstance(value, list | tuple) else value)
                for field, value in record.items()
            }
        )
    return file.getvalue()


def as_json(records: Sequence[Record]) -> str:
    """A JSON list of objects."""
    return printable(json.dumps(list(records), indent=2, ensure_ascii=False)) + "\n"


def _cell(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = _cell(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

"""Images that a table names or holds, with their labels, and with splits and groups if it has them."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optduel.components.core import DataError, OptduelError
from optduel.components.prepare.formats import is_image_name
from optduel.components.prepare.sources.folder import read_image_file, too_long
from optduel.components.prepare.sources.layout import (
    data_set_name,
    describe_tree,
    problem,
    reason_against_name,
    split_called,
)
from optduel.components.prepare.sources.source import Example
from optduel.components.prepare.sources.table_files import Columns, read_names, read_table
from optduel.components.settings import TableSource
from optduel.components.storage import is_remote, join, list_entries, local_path, read

PROBLEMS_SHOWN = 20
"""Lines of a message that lists groups."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")

Reasons = defaultdict[int, list[str]]
"""Why rows cannot be used, by their numbers."""


class Table:
    """Images of a table of labels. Rows that cannot be used are problems, which name their lines.

    Args:
        source: the table's path or URI, and which column is what.

    Raises:
        DataError: it is no table, has no images of two classes, or has a group in two splits.
        StorageError: it, or what it names, cannot be read or listed.
    """

    def __init__(self, source: TableSource) -> None:
        where = f"data.source.path = {source.path}"
        name = source.path.rstrip("/").rpartition("/")[2]
        self.name = data_set_name(name.removesuffix(Path(name).suffix))
        self.description = describe_tree("table", name)
        table = read_table(source, where)
        self._kept = table.kept
        names = read_names(source.names) if source.names else table.names
        reasons: Reasons = defaultdict(list)
        labels = _labels_of(table, names, reasons)
        places = _places_of(table, source, reasons)
        splits = _splits_of(table, reasons)
        _note_repeats(table, places, labels, reasons)
        present = {label for row, label in enumerate(labels) if label is not None and row not in reasons}
        self.classes = tuple(names) if names else _in_order(present)
        self.problems = [
            problem((f"{table.rows[row]}: {_shown(table.images[row])}",), "; ".join(told))
            for row, told in sorted(reasons.items())
        ]
        if len(self.classes) < 2:
            first = f"; {self.problems[0].image}: {self.problems[0].reason}" if self.problems else ""
            raise DataError(
                f"{where}: has usable images of {len(self.classes)} class(es); a classifier needs two or more"
                f"{first}"
            )
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.examples: list[Example] = []
        self._places: list[str | int] = []
        members: dict[str, dict[str | None, str]] = defaultdict(dict)
        for row, (place, label, split) in enumerate(zip(places, labels, splits, strict=True)):
            if row in reasons or place is None or label is None:
                continue
            group = _group_of(table.groups[row]) if table.groups else None
            image = table.images[row]
            name = image if isinstance(image, str) else table.rows[row]
            is_named = isinstance(image, str) and is_image_name(image)
            self.examples.append(Example(name, numbers[label], split, group, is_named))
            self._places.append(place)
            if group is not None:
                members[group].setdefault(split, table.rows[row])
        _refuse_divided_groups(where, members)

    def read(self, position: int) -> bytes:
        """Reads the image from where the table says, or from the table itself."""
        place = self._places[position]
        if isinstance(place, str):
            return read(place) if is_remote(place) else read_image_file(Path(place))
        if self._kept is None:
            raise OSError(None, "the table holds no images")
        return self._kept.read(place)


def _shown(image: str | int | None) -> str:
    return image if isinstance(image, str) else "image"


def _labels_of(table: Columns, names: Sequence[str] | None, reasons: Reasons) -> list[str | None]:
    """The class of each row, None where it has none."""
    found: list[str | None] = []
    for row, label in enumerate(table.labels):
        text, reason = _label_of(label, names)
        found.append(text)
        if reason:
            reasons[row].append(reason)
    return found


def _label_of(label: Any, names: Sequence[str] | None) -> tuple[str | None, str | None]:
    """The class that a label stands for, or why it stands for none."""
    if label is None or label == "":
        return None, "has no label"
    if isinstance(label, bool) or not isinstance(label, int | str):
        return None, f"has the label {label!r}, which is neither text nor an integer"
    if isinstance(label, str):
        if label != label.strip():
            return None, f"has the label {label!r}, with blanks around it"
        if reason_against_name(label):
            return None, f"has the label {label!a}, with unprintable characters"
        if names is None or label in names:
            return label, None
        if not _INTEGER.fullmatch(label):
            return None, f"has the label {label!r}, which is none of the {len(names):,} names"
        label = int(label)
    if names is None:
        return str(label), None
    if not 0 <= label < len(names):
        return None, f"has the label {label}, but there are {len(names):,} names"
    return names[label], None


def _in_order(labels: set[str]) -> tuple[str, ...]:
    """Class names by their text; as numbers, where all are integers."""
    if all(map(_INTEGER.fullmatch, labels)):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _splits_of(table: Columns, reasons: Reasons) -> list[str | None]:
    if not table.splits:
        return [None] * len(table.rows)
    found = []
    for row, split in enumerate(table.splits):
        found.append(split_called(split) if isinstance(split, str) else None)
        if found[-1] is None:
            reasons[row].append(f"has the split {split!r}; known are train, validation, test")
    return found


def _group_of(group: Any) -> str | None:
    return None if group is None or group == "" else str(group)


def _places_of(table: Columns, source: TableSource, reasons: Reasons) -> list[str | int | None]:
    """Where each row's image lies: a path, a URI, or a number of what the table holds; None for nowhere."""
    folder = source.folder
    root = folder if is_remote(folder) else os.path.realpath(local_path(folder))
    found: list[str | int | None] = []
    for row, image in enumerate(table.images):
        try:
            found.append(_place_of(image, root))
        except (OptduelError, ValueError) as error:
            found.append(None)
            reasons[row].append(str(error))
    sizes = _stored_sizes([place for place in found if isinstance(place, str) and is_remote(place)])
    for row, place in enumerate(found):
        if not isinstance(place, str):
            continue
        if not is_remote(place):
            if not os.path.isfile(place):
                reasons[row].append("no such file")
        elif place not in sizes:
            reasons[row].append("no such object")
        elif reason := too_long(sizes[place]):
            reasons[row].append(reason)
    return found


def _place_of(image: str | int | None, root: str) -> str | int:
    """Raises ValueError or an OptduelError that says why it is no place."""
    if image is None or image == "":
        raise ValueError("names no image")
    if isinstance(image, int):
        return image
    if image != image.strip():
        raise ValueError("has blanks around its path")
    if is_remote(image):
        return join(image)
    if "://" in image:
        if is_remote(root):
            raise ValueError("is no place that pods can read: give a path below the table's folder, or a URI")
        return str(local_path(image))
    if is_remote(root):
        return join(root, os.path.normpath(image))
    place = os.path.normpath(os.path.join(root, image))
    if not place.startswith(f"{root.rstrip('/')}/"):
        raise ValueError("leads out of the table's folder: put the images below it, or give URIs")
    return place


def _stored_sizes(uris: Sequence[str]) -> dict[str, int]:
    """The sizes of those objects that exist, from a listing of the folder that all of a bucket's lie in."""
    by_bucket: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        by_bucket["/".join(uri.split("/")[:3])].append(uri)
    found: dict[str, int] = {}
    for bucket, wanted in by_bucket.items():
        folders = {uri.rpartition("/")[0].removeprefix(bucket) for uri in wanted}
        common = os.path.commonpath([folder or "/" for folder in folders])
        entries = list_entries(bucket + common.rstrip("/"))
        known = {entry.uri: entry.bytes for entry in entries}
        found |= {uri: known[uri] for uri in wanted if uri in known}
    return found


def _note_repeats(
    table: Columns, places: Sequence[str | int | None], labels: Sequence[str | None], reasons: Reasons
) -> None:
    """Notes rows that name an image again, with the same label or with another one."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, place in enumerate(places):
        if isinstance(place, str):
            rows_of[place].append(row)
    for rows in rows_of.values():
        first, *others = rows
        if len({labels[row] for row in rows}) > 1:
            for row in rows:
                other = next(each for each in rows if labels[each] != labels[row])
                reasons[row].append(
                    f"has the label {labels[row]!r} here and {labels[other]!r} in {table.rows[other]}"
                )
        else:
            for row in others:
                reasons[row].append(f"is the image of {table.rows[first]} again")


def _refuse_divided_groups(where: str, members: dict[str, dict[str | None, str]]) -> None:
    """Refuses groups that the table itself puts into several splits: which of these is meant?

    Raises:
        DataError: names the groups, and a row of each split.
    """
    divided = {group: splits for group, splits in members.items() if len(splits) > 1}
    if not divided:
        return
    lines = [
        f"group {group}: " + ", ".join(f"{split} ({row})" for split, row in splits.items())
        for group, splits in list(divided.items())[:PROBLEMS_SHOWN]
    ]
    if len(divided) > PROBLEMS_SHOWN:
        lines.append(f"... and {len(divided) - PROBLEMS_SHOWN} more")
    rule = "images of one group may not lie in two splits; correct the column split, or leave it out"
    raise DataError("\n".join([f"{where}: {len(divided)} group(s) in several splits; {rule}", *lines]))

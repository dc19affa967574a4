"""Which files of a tree are images of which class and split: one set of rules, wherever the tree lies.

A tree is `class/image`, or `split/class/image` with splits called train, validation (val, valid, dev), test.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from optduel.components.core import DataError
from optduel.components.prepare.formats import image_suffixes, is_image_name
from optduel.components.prepare.sources.source import Example
from optduel.components.records import Skipped

STRUCTURE_SHOWN = 20
"""Lines of a message that lists folders."""

# Reasons are part of a data set's fingerprint: the same tree has one, wherever it lies.
UNPRINTABLE = "has a name with unprintable characters: rename it"
BESIDE = "lies beside the class folders: move it into the folder of its class"
LINK = "is a link that leaves the folder or leads nowhere"
WITHIN = "is a folder inside a class folder: move its images up, or make it a class"

_LEFT_BY_SYSTEMS = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)

_JOINERS = "\u200c\u200d"
"""Persian and Indic scripts and emoji are written with them."""

_NO_TEXT = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, of invisible signs, of bytes that are no text, and of line ends."""

_SPLIT = re.compile(
    r"(train|val|test|dev|eval)(ing|idation|id|uation)?[-_ ]?(set|split|data|images?|imgs?|folder)?",
    re.IGNORECASE,
)

_SPLITS = {"train": "train", "val": "validation", "dev": "validation", "test": "test", "eval": "test"}
"""The split by the first letters of a folder's name."""


class Found(NamedTuple):
    """A file or folder of a tree.

    Attributes:
        parts: its name, and before it those of the folders that it is in, below the root.
        is_folder: it holds others.
        reason: why it cannot be used, whatever it is called.
    """

    parts: tuple[str, ...]
    is_folder: bool
    reason: str | None = None


@dataclass(frozen=True)
class Layout:
    """What a tree holds.

    Attributes:
        classes: names, in the order of the labels.
        examples: the images.
        problems: what lies among the images and cannot be one.
    """

    classes: tuple[str, ...]
    examples: list[Example]
    problems: list[Skipped]


def lay_out(where: str, path: str, found: Iterable[Found]) -> Layout:
    """Takes the files and folders of a tree for classes, splits and images.

    Args:
        where: the root, as messages name it.
        path: of the root.
        found: all that is not ignored, down to the third level at least, in the order of the names; a folder
            comes before what it holds.

    Raises:
        DataError: no class folders, only one, one without images, or folders of another structure.
    """
    entries = list(found)
    tops = [entry.parts[0] for entry in entries if entry.is_folder and len(entry.parts) == 1]
    split_of = _splits_of(where, path, tops, entries)
    depth = 2 if split_of else 1
    folders = [entry for entry in entries if entry.is_folder]
    class_folders = [entry for entry in folders if len(entry.parts) == depth]
    names = sorted({entry.parts[-1] for entry in class_folders})
    structure = [
        problem(entry.parts, reason)
        for entry in folders
        if len(entry.parts) <= depth and (reason := entry.reason or reason_against_name(entry.parts[-1]))
    ]
    wrong = {entry.image for entry in structure}
    structure += [
        problem(entry.parts, WITHIN)
        for entry in folders
        if len(entry.parts) == depth + 1 and problem(entry.parts[:depth], "").image not in wrong
    ]
    _refuse_structure(where, structure)
    labels = {name: label for label, name in enumerate(names)}
    examples: list[Example] = []
    problems: list[Skipped] = []
    for entry in entries:
        if entry.is_folder or len(entry.parts) > depth + 1:
            continue
        name = entry.parts[-1]
        if len(entry.parts) <= depth:
            if reason := reason_against_name(name) or (BESIDE if is_image_name(name) else None):
                problems.append(problem(entry.parts, reason))
        elif reason := reason_against_name(name) or entry.reason or _reason_against_file(name):
            problems.append(problem(entry.parts, reason))
        else:
            split = split_of[entry.parts[0]] if split_of else None
            example = Example("/".join(entry.parts), labels[entry.parts[-2]], split, is_named_file=True)
            examples.append(example)
    classes = tuple(_shown(name) for name in names)
    _refuse_unusable(where, classes, examples, problems, depth)
    return Layout(classes, examples, problems)


def _splits_of(where: str, path: str, tops: Sequence[str], entries: Sequence[Found]) -> dict[str, str]:
    """The split of each folder at the top, or nothing where these are classes.

    Raises:
        DataError: they are splits, and not as splits have to be.
    """
    splits = {name: split for name in tops if (split := split_called(name))}
    if not splits or (len(set(splits.values())) == 1 and len(splits) < len(tops)):
        return {}
    has_classes = {entry.parts[0] for entry in entries if entry.is_folder and len(entry.parts) == 2}
    listed = ", ".join(splits)
    if not has_classes.issuperset(splits):
        raise DataError(
            f"{where}: {listed} are splits, not classes; put the images of each class into a folder of its "
            "own: data.split makes the splits"
        )
    if others := [name for name in tops if name not in splits]:
        raise DataError(
            f"{where}: {listed} are splits, and {', '.join(others)} beside them is none; move it away"
        )
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{where}: of {listed} two are the same split; merge them")
    if "train" not in splits.values():
        raise DataError(
            f"{where}: {listed} are splits, but none is to train on; call one train, or name one of them, "
            f"for example data.source.path = {path.rstrip('/')}/{next(iter(splits))}"
        )
    return splits


def split_called(name: str) -> str | None:
    """The split that people call so: "train" for "Training set", say; None for other names."""
    match = _SPLIT.fullmatch(name)
    return _SPLITS[match[1].lower()] if match else None


def is_ignored(name: str) -> bool:
    """Whether files and folders of this name are passed over: hidden ones, and what systems leave behind."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def reason_against_name(name: str) -> str | None:
    """Why a name cannot be shown to anybody. Spaces of every width and emoji can."""
    if name.isascii() and name.isprintable():
        return None  # soon, as most are
    is_text = all(unicodedata.category(sign) not in _NO_TEXT or sign in _JOINERS for sign in name)
    return None if is_text else UNPRINTABLE


def _reason_against_file(name: str) -> str | None:
    """Why a file in a class folder cannot be an image, from its name."""
    return None if is_image_name(name) else f"is not an image file: their names end in {image_suffixes()}"


def problem(parts: tuple[str, ...], reason: str) -> Skipped:
    """What lies among the images and cannot be one."""
    return Skipped(image=_shown("/".join(parts)), reason=reason)


def _shown(name: str) -> str:
    # Undecodable bytes of a name could be written neither to the manifest nor to a terminal.
    return ascii(name) if reason_against_name(name) else name


def describe_tree(kind: str, name: str) -> str:
    """The source in one line, for people."""
    return f"image {kind} {_shown(name)}"


def _refuse_structure(where: str, structure: Sequence[Skipped]) -> None:
    """Refuses folders that are no class folders: with them whole classes would be left out, or be none."""
    if structure:
        shown = [f"{entry.image}: {entry.reason}" for entry in structure[:STRUCTURE_SHOWN]]
        if len(structure) > STRUCTURE_SHOWN:
            shown.append(f"... and {len(structure) - STRUCTURE_SHOWN} more")
        rule = "each class is one folder of images; data.skip_corrupt leaves out single files only"
        raise DataError("\n".join([f"{where}: {len(structure)} folder(s) out of place; {rule}", *shown]))


def _refuse_unusable(
    where: str, classes: Sequence[str], examples: Sequence[Example], problems: Sequence[Skipped], depth: int
) -> None:
    """Refuses a tree that no classifier can be trained on."""
    if not classes:
        raise DataError(
            f"{where}: has no class folders; put the images of each class into a folder of its own"
        )
    if len(classes) == 1:
        raise DataError(f"{where}: has one class folder, {classes[0]}; a classifier needs two or more")
    present = {example.label for example in examples}
    empty = [name for label, name in enumerate(classes) if label not in present]
    if empty:
        remedy = "add images or remove the folder"
        lines = [_without_images(name, problems, depth) for name in empty]
        raise DataError("\n".join([f"{where}: {len(empty)} class(es) without images; {remedy}", *lines]))


def _without_images(name: str, problems: Sequence[Skipped], depth: int) -> str:
    within = [problem for problem in problems if name in problem.image.split("/")[depth - 1 : depth]]
    if not within:
        return name
    return f"{name}: has {len(within)} that cannot be read, {within[0].image}: {within[0].reason}"


def data_set_name(folder: str) -> str:
    """Lower case letters, digits and hyphens, of any folder's name."""
    words = "".join(
        character if character.isascii() and character.isalnum() else " " for character in folder.lower()
    )
    return "-".join(words.split())[:40].strip("-") or "images"


def found_in(files: Iterable[tuple[tuple[str, ...], str | None]]) -> list[Found]:
    """Files, by their parts and with the reasons against them, as a tree with their folders.

    Ignored are files with an ignored part. A folder without a file is given by parts that end in "".
    """
    folders: set[tuple[str, ...]] = set()
    found: list[Found] = []
    for parts, reason in files:
        if any(map(is_ignored, parts)):
            continue
        for depth in range(1, len(parts)):
            if parts[:depth] not in folders:
                folders.add(parts[:depth])
                found.append(Found(parts[:depth], is_folder=True))
        if parts[-1]:
            found.append(Found(parts, is_folder=False, reason=reason))
    return sorted(found, key=lambda entry: entry.parts)

"""An image folder on this machine."""

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from optduel.components.core import DataError
from optduel.components.prepare.formats import image_suffixes, is_image_name
from optduel.components.prepare.image import ENCODED_BYTES_LIMIT
from optduel.components.prepare.sources.source import Example
from optduel.components.records import Skipped
from optduel.components.settings import FolderSource
from optduel.components.storage import as_storage_error, join, list_entries, local_path, read

STRUCTURE_SHOWN = 20
"""Lines of a message that lists folders."""


class Folder:
    """Images in class folders; ignored are other files beside these, and what systems leave behind.

    Args:
        source: the folder's path.

    Raises:
        DataError: no folder, no class folders, one without images, or folders of another structure.
        StorageError: the folder cannot be listed.
    """

    def __init__(self, source: FolderSource) -> None:
        where = f"data.source.path = {source.path}"
        self._folder = _existing_folder(source.path, where)
        self.name = data_set_name(self._folder.name)
        self.description = f"image folder {_shown(self._folder.name)}"
        self.examples: list[Example] = []
        self.problems: list[Skipped] = []
        self._structure: list[Skipped] = []
        try:
            self.classes = self._list()
        except OSError as error:
            raise as_storage_error(error, self._folder) from error
        refuse_structure(where, str(self._folder), self.classes, self._structure)
        refuse_unusable(where, self.classes, self.examples, self.problems)

    def read(self, position: int) -> bytes:
        """Reads an image file."""
        path = self._folder / self.examples[position].id
        # Without waiting: a pipe that has taken the file's place would let nobody go on.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "is no longer a regular file", str(path))
            # One byte more than is allowed shows that there is too much, without reading all of it.
            return file.read(ENCODED_BYTES_LIMIT + 1)

    def _list(self) -> tuple[str, ...]:
        folders = []
        for entry in _visible(self._folder):
            leaves = self._leaves(entry)
            if entry.is_dir() or (leaves and not entry.exists() and not is_image_name(entry.name)):
                if reason := LINK if leaves else reason_against_name(entry.name):
                    self._structure.append(problem(self._id(entry), reason))
                folders.append(entry)
            elif reason := reason_against_name(entry.name) or _reason_beside(entry.name):
                self._note(entry, reason)
        wrong = {entry.image for entry in self._structure}
        for label, folder in enumerate(folders):
            if problem(self._id(folder), "").image in wrong:
                continue
            for entry in _visible(folder):
                if entry.is_dir():
                    self._structure.append(problem(self._id(entry), WITHIN))
                elif reason := self._reason_against_image(entry):
                    self._note(entry, reason)
                else:
                    self.examples.append(Example(self._id(entry), label, is_named_file=True))
        return tuple(_shown(folder.name) for folder in folders)

    def _leaves(self, entry: Path) -> bool:
        """Whether it is a link that leaves the folder or leads nowhere."""
        return entry.is_symlink() and not (entry.exists() and entry.resolve().is_relative_to(self._folder))

    def _reason_against_image(self, entry: Path) -> str | None:
        if reason := reason_against_name(entry.name):
            return reason
        if self._leaves(entry):
            return LINK
        if not stat.S_ISREG(entry.stat().st_mode):
            return "is not a regular file"
        return reason_against_file(entry.name)

    def _note(self, entry: Path, reason: str) -> None:
        self.problems.append(problem(self._id(entry), reason))

    def _id(self, entry: Path) -> str:
        return entry.relative_to(self._folder).as_posix()


def _existing_folder(path: str, where: str) -> Path:
    place = local_path(path)
    try:
        found = stat.S_ISDIR(place.stat().st_mode)
        folder = place.resolve()
    except (FileNotFoundError, NotADirectoryError):
        found = False
    except OSError as error:
        raise as_storage_error(error, place) from error
    if not found:
        raise DataError(f"{where}: no such folder")
    return folder


def _visible(folder: Path) -> Iterator[Path]:
    """The entries that are not ignored, by name."""
    for name in sorted(os.listdir(folder)):
        if not is_ignored(name):
            yield folder / name


# Reasons are part of a data set's fingerprint: the same folder has one, whatever store it lies in.
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


def is_ignored(name: str) -> bool:
    """Whether files and folders of this name are passed over: hidden ones, and what systems leave behind."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def reason_against_name(name: str) -> str | None:
    """Why a name cannot be shown to anybody. Spaces of every width and emoji can."""
    is_text = all(unicodedata.category(sign) not in _NO_TEXT or sign in _JOINERS for sign in name)
    return None if is_text else UNPRINTABLE


def _reason_beside(name: str) -> str | None:
    return BESIDE if is_image_name(name) else None


def reason_against_file(name: str) -> str | None:
    """Why a file in a class folder cannot be an image, from its name."""
    if reason := reason_against_name(name):
        return reason
    if not is_image_name(name):
        return f"is not an image file: their names end in {image_suffixes()}"
    return None


def problem(name: str, reason: str) -> Skipped:
    """What lies among the images and cannot be one."""
    return Skipped(image=_shown(name), reason=reason)


def _shown(name: str) -> str:
    # Undecodable bytes of a name could be written neither to the manifest nor to a terminal.
    return ascii(name) if reason_against_name(name) else name


def refuse_structure(where: str, path: str, classes: Sequence[str], structure: Sequence[Skipped]) -> None:
    """Refuses folders that are no class folders: with them whole classes would be left out, or be none.

    Args:
        where: the folder, as messages name it.
        path: of the folder.
        classes: names of the folders in it.
        structure: what is wrong with these folders.

    Raises:
        DataError: some are splits, links elsewhere, unnameable, or hold further folders.
    """
    splits = [name for name in classes if _SPLIT.fullmatch(name)]
    kinds = {name[:2].lower() for name in splits}
    if splits and (len(kinds) > 1 or splits == list(classes)):
        is_nested = any(entry.reason == WITHIN for entry in structure)
        remedy = (
            f"name one of them, for example data.source.path = {path.rstrip('/')}/{splits[0]}, or merge them"
            if is_nested
            else "put the images of each class into a folder of its own"
        )
        raise DataError(
            f"{where}: {', '.join(splits)} are splits, not classes; {remedy}: data.split makes the splits"
        )
    if structure:
        shown = [f"{entry.image}: {entry.reason}" for entry in structure[:STRUCTURE_SHOWN]]
        if len(structure) > STRUCTURE_SHOWN:
            shown.append(f"... and {len(structure) - STRUCTURE_SHOWN} more")
        rule = "each class is one folder of images; data.skip_corrupt leaves out single files only"
        raise DataError("\n".join([f"{where}: {len(structure)} folder(s) out of place; {rule}", *shown]))


def refuse_unusable(
    where: str, classes: Sequence[str], examples: Sequence[Example], problems: Sequence[Skipped]
) -> None:
    """Refuses a folder that no classifier can be trained on.

    Args:
        where: the folder, as messages name it.
        problems: what lies in it and cannot be an image.

    Raises:
        DataError: no class folders, only one, or one without images.
    """
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
        lines = [_without_images(name, problems) for name in empty]
        raise DataError("\n".join([f"{where}: {len(empty)} class(es) without images; {remedy}", *lines]))


def _without_images(name: str, problems: Sequence[Skipped]) -> str:
    within = [problem for problem in problems if problem.image.startswith(f"{name}/")]
    if not within:
        return name
    return f"{name}: has {len(within)} that cannot be read, {within[0].image}: {within[0].reason}"


def data_set_name(folder: str) -> str:
    """Lower case letters, digits and hyphens, of any folder's name."""
    words = "".join(
        character if character.isascii() and character.isalnum() else " " for character in folder.lower()
    )
    return "-".join(words.split())[:40].strip("-") or "images"


class StoredFolder:
    """Images in class folders, by the same rules as in a local folder, and the same records.

    Args:
        source: the folder's URI.

    Raises:
        DataError: no objects, no class folders, one without images, or folders of another structure.
        StorageError: the folder cannot be listed.
    """

    def __init__(self, source: FolderSource) -> None:
        where = f"data.source.path = {source.path}"
        self._folder = source.path.rstrip("/")
        name = self._folder.rpartition("/")[2]
        self.name = data_set_name(name)
        self.description = f"image folder {_shown(name)}"
        self.examples: list[Example] = []
        entries = list_entries(self._folder)
        if not entries:
            raise DataError(f"{where}: no such folder")
        sizes = {
            tuple(entry.uri.removeprefix(f"{self._folder}/").split("/")): entry.bytes for entry in entries
        }
        folders = {parts[0] for parts in sizes if len(parts) > 1 and not is_ignored(parts[0])}
        self.classes = tuple(sorted(folders))
        nested = {parts[:2] for parts in sizes if len(parts) > 2 and not any(map(is_ignored, parts[:2]))}
        structure = [problem(name, reason) for name in self.classes if (reason := reason_against_name(name))]
        structure += [problem("/".join(parts), WITHIN) for parts in sorted(nested)]
        refuse_structure(where, self._folder, self.classes, structure)
        self.problems: Sequence[Skipped] = [
            found for parts in sorted(sizes) if (found := self._look_at(parts, sizes[parts]))
        ]
        refuse_unusable(where, self.classes, self.examples, self.problems)

    def read(self, position: int) -> bytes:
        """Reads an image from the store, checked against its checksum there."""
        return read(join(self._folder, self.examples[position].id))

    def _look_at(self, parts: tuple[str, ...], size: int) -> Skipped | None:
        """Takes an object for an example, or tells why it is none; None also for what is ignored."""
        if any(map(is_ignored, parts)):
            return None
        if len(parts) == 1:
            (name,) = parts
            reason = reason_against_name(name) or _reason_beside(name)
            return problem(name, reason) if reason else None
        folder, name = parts
        example = f"{folder}/{name}"
        if reason := reason_against_file(name):
            return problem(example, reason)
        if size > ENCODED_BYTES_LIMIT:
            return problem(example, f"has {size:,} bytes, the limit is {ENCODED_BYTES_LIMIT:,}")
        self.examples.append(Example(example, self.classes.index(folder), is_named_file=True))
        return None

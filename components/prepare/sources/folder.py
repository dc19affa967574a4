"""An image folder on this machine."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from optduel.components.core import DataError
from optduel.components.prepare.image import ENCODED_BYTES_LIMIT, image_suffixes, is_image_name
from optduel.components.prepare.sources.source import Example
from optduel.components.records import Skipped
from optduel.components.settings import FolderSource
from optduel.components.storage import as_storage_error, join, list_entries, local_path, read


class Folder:
    """Images in class folders. Hidden files are ignored, and so are other files beside the class folders.

    Args:
        source: the folder's path.

    Raises:
        DataError: no folder, no class folders, or a class folder without images.
        StorageError: the folder cannot be listed.
    """

    def __init__(self, source: FolderSource) -> None:
        where = f"data.source.path = {source.path}"
        self._folder = local_path(source.path).resolve()
        if not self._folder.is_dir():
            raise DataError(f"{where}: no such folder")
        self.name = data_set_name(self._folder.name)
        self.description = f"image folder {self._folder.name}"
        self.examples: list[Example] = []
        self.problems: list[Skipped] = []
        try:
            self.classes = self._list()
        except OSError as error:
            raise as_storage_error(error, self._folder) from error
        refuse_unusable(where, self.classes, self.examples, self.problems)

    def read(self, position: int) -> bytes:
        """Reads an image file."""
        with (self._folder / self.examples[position].id).open("rb") as file:
            # One byte more than is allowed shows that there is too much, without reading all of it.
            return file.read(ENCODED_BYTES_LIMIT + 1)

    def _list(self) -> tuple[str, ...]:
        folders = []
        for entry in _visible(self._folder):
            if reason := self._reason_against_any(entry):
                self._note(entry, reason)
            elif entry.is_dir():
                folders.append(entry)
            elif is_image_name(entry.name):
                self._note(entry, BESIDE)
        for label, folder in enumerate(folders):
            for entry in _visible(folder):
                if reason := self._reason_against_image(entry):
                    self._note(entry, reason)
                else:
                    self.examples.append(Example(self._id(entry), label, is_named_file=True))
        return tuple(folder.name for folder in folders)

    def _reason_against_any(self, entry: Path) -> str | None:
        if not entry.name.isprintable():
            return UNPRINTABLE
        if entry.is_symlink() and not (entry.exists() and entry.resolve().is_relative_to(self._folder)):
            return "is a link that leaves the folder or leads nowhere"
        return None

    def _reason_against_image(self, entry: Path) -> str | None:
        if reason := self._reason_against_any(entry):
            return reason
        mode = entry.stat().st_mode
        if stat.S_ISDIR(mode):
            return WITHIN
        if not stat.S_ISREG(mode):
            return "is not a regular file"
        return reason_against_file(entry.name)

    def _note(self, entry: Path, reason: str) -> None:
        self.problems.append(problem(self._id(entry), reason))

    def _id(self, entry: Path) -> str:
        return entry.relative_to(self._folder).as_posix()


def _visible(folder: Path) -> Iterator[Path]:
    """The entries that are not hidden, by name."""
    for name in sorted(os.listdir(folder)):
        if not is_hidden(name):
            yield folder / name


# Reasons are part of a data set's fingerprint: the same folder has one, whatever store it lies in.
UNPRINTABLE = "has a name with unprintable characters: rename it"
BESIDE = "lies beside the class folders: move it into the folder of its class"
WITHIN = "is a folder inside a class folder: move its images up, or make it a class"


def is_hidden(name: str) -> bool:
    """Whether files of this name are ignored."""
    return name.startswith(".")


def reason_against_file(name: str) -> str | None:
    """Why a file in a class folder cannot be an image, from its name."""
    if not name.isprintable():
        return UNPRINTABLE
    if not is_image_name(name):
        return f"is not an image file: their names end in {image_suffixes()}"
    return None


def problem(name: str, reason: str) -> Skipped:
    """What lies among the images and cannot be one."""
    # Undecodable bytes of a name could be written neither to the manifest nor to a terminal.
    return Skipped(image=name if name.isprintable() else ascii(name), reason=reason)


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
        DataError: no objects, no class folders, or a class folder without images.
        StorageError: the folder cannot be listed.
    """

    def __init__(self, source: FolderSource) -> None:
        where = f"data.source.path = {source.path}"
        self._folder = source.path.rstrip("/")
        name = self._folder.rpartition("/")[2]
        self.name = data_set_name(name)
        self.description = f"image folder {name}"
        self.examples: list[Example] = []
        entries = list_entries(self._folder)
        if not entries:
            raise DataError(f"{where}: no such folder")
        sizes = {
            tuple(entry.uri.removeprefix(f"{self._folder}/").split("/")): entry.bytes for entry in entries
        }
        folders = {parts[0] for parts in sizes if len(parts) > 1}
        self.classes = tuple(sorted(name for name in folders if _is_class_name(name)))
        problems = [found for parts in sorted(sizes) if (found := self._look_at(parts, sizes[parts]))]
        self.problems: Sequence[Skipped] = list(dict.fromkeys(problems))  # a folder's objects all name it
        refuse_unusable(where, self.classes, self.examples, self.problems)

    def read(self, position: int) -> bytes:
        """Reads an image from the store, checked against its checksum there."""
        return read(join(self._folder, self.examples[position].id))

    def _look_at(self, parts: tuple[str, ...], size: int) -> Skipped | None:
        """Takes an object for an example, or tells why it is none; None also for what is ignored."""
        if any(is_hidden(part) for part in parts[:2]):
            return None
        if len(parts) == 1:
            return _beside(parts[0])
        folder, name, *deeper = parts
        if not _is_class_name(folder):
            return problem(folder, UNPRINTABLE)
        example = f"{folder}/{name}"
        if deeper:
            return problem(example, WITHIN if name.isprintable() else UNPRINTABLE)
        if reason := reason_against_file(name):
            return problem(example, reason)
        if size > ENCODED_BYTES_LIMIT:
            return problem(example, f"has {size:,} bytes, the limit is {ENCODED_BYTES_LIMIT:,}")
        self.examples.append(Example(example, self.classes.index(folder), is_named_file=True))
        return None


def _is_class_name(name: str) -> bool:
    return name != "" and name.isprintable() and not is_hidden(name)


def _beside(name: str) -> Skipped | None:
    if not name.isprintable():
        return problem(name, UNPRINTABLE)
    return problem(name, BESIDE) if is_image_name(name) else None

"""An image folder on this machine."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from optduel.components.core.errors import DataError
from optduel.components.prepare.image import ENCODED_BYTES_LIMIT, is_image_name
from optduel.components.prepare.sources.class_folders import (
    BESIDE,
    UNPRINTABLE,
    WITHIN,
    data_set_name,
    is_hidden,
    problem,
    reason_against_file,
    refuse_unusable,
)
from optduel.components.prepare.sources.source import Example
from optduel.components.records.manifest import Skipped
from optduel.components.settings.experiment import FolderSource
from optduel.components.storage.local import as_storage_error
from optduel.components.storage.location import local_path


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

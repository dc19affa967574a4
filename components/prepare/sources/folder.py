"""A folder of images, on this machine or in a store."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from optduel.components.core import DataError
from optduel.components.prepare.formats import is_image_name
from optduel.components.prepare.image import ENCODED_BYTES_LIMIT
from optduel.components.prepare.sources.layout import (
    LINK,
    Found,
    data_set_name,
    describe_tree,
    found_in,
    is_ignored,
    lay_out,
)
from optduel.components.settings import FolderSource
from optduel.components.storage import (
    as_storage_error,
    join,
    kind_of,
    list_entries,
    local_path,
    read,
    resolved,
)

_LEVELS = 3
"""Of folders and files that are looked at: split, class, image."""


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
        self._folder = existing_folder(source.path, where)
        self.name = data_set_name(self._folder.name)
        self.description = describe_tree("folder", self._folder.name)
        try:
            layout = lay_out(where, str(self._folder), self._walk(self._folder, 1))
        except OSError as error:
            raise as_storage_error(error, self._folder) from error
        self.classes, self.examples, self.problems = layout.classes, layout.examples, layout.problems

    def read(self, position: int) -> bytes:
        """Reads an image file."""
        return read_image_file(self._folder / self.examples[position].id)

    def _walk(self, folder: Path, level: int) -> Iterator[Found]:
        for name in sorted(os.listdir(folder)):
            if is_ignored(name):
                continue
            entry = folder / name
            parts = entry.relative_to(self._folder).parts
            leaves = self._leaves(entry)
            if entry.is_dir() or (level == 1 and leaves and not entry.exists() and not is_image_name(name)):
                yield Found(parts, is_folder=True, reason=LINK if leaves else None)
                if level < _LEVELS and not leaves:
                    yield from self._walk(entry, level + 1)
            elif leaves:
                yield Found(parts, is_folder=False, reason=LINK)
            else:
                is_file = stat.S_ISREG(entry.stat().st_mode)
                yield Found(parts, is_folder=False, reason=None if is_file else "is not a regular file")

    def _leaves(self, entry: Path) -> bool:
        """Whether it is a link that leaves the folder or leads nowhere."""
        return entry.is_symlink() and not (entry.exists() and entry.resolve().is_relative_to(self._folder))


def existing_folder(path: str, where: str) -> Path:
    """The folder at a path, without links.

    Raises:
        DataError: there is none.
        StorageError: it cannot be looked at.
    """
    place = local_path(path)
    if kind_of(place) != "folder":
        raise DataError(f"{where}: no such folder")
    return resolved(place)


def read_image_file(path: Path) -> bytes:
    """The content of an image file, or a byte more than is allowed.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    # Without waiting: a pipe that has taken the file's place would let nobody go on.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no longer a regular file", str(path))
        # One byte more than is allowed shows that there is too much, without reading all of it.
        return file.read(ENCODED_BYTES_LIMIT + 1)


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
        self.description = describe_tree("folder", name)
        entries = list_entries(self._folder)
        if not entries:
            raise DataError(f"{where}: no such folder")
        start = len(self._folder) + 1
        files = ((tuple(entry.uri[start:].split("/")), too_long(entry.bytes)) for entry in entries)
        layout = lay_out(where, self._folder, found_in(files))
        self.classes, self.examples, self.problems = layout.classes, layout.examples, layout.problems

    def read(self, position: int) -> bytes:
        """Reads an image from the store, checked against its checksum there."""
        return read(join(self._folder, self.examples[position].id))


def too_long(size: int) -> str | None:
    """Why a file of so many bytes is not read, or None."""
    if size <= ENCODED_BYTES_LIMIT:
        return None
    return f"has {size:,} bytes, the limit is {ENCODED_BYTES_LIMIT:,}"

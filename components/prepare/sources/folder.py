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

_PIECE_BYTES = 1 << 20


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
            layout = lay_out(where, str(self._folder), self._walk(()))
        except OSError as error:
            raise as_storage_error(error, self._folder) from error
        self.classes, self.examples, self.problems = layout.classes, layout.examples, layout.problems
        self._start = os.path.join(self._folder, "")

    def read(self, position: int) -> bytes:
        """Reads an image file."""
        return read_image_file(self._start + self.examples[position].id)

    def _walk(self, above: tuple[str, ...]) -> Iterator[Found]:
        """What lies in a folder, which is given by its parts, and below."""
        with os.scandir(self._folder.joinpath(*above)) as entries:
            sorted_entries = sorted(entries, key=lambda entry: entry.name)
        for entry in sorted_entries:
            if is_ignored(entry.name):
                continue
            parts = (*above, entry.name)
            link = Path(entry.path) if entry.is_symlink() else None
            leaves = link is not None and self._leaves(link)
            is_folder = link.is_dir() if link else entry.is_dir()
            if is_folder or (not above and link and leaves and self._may_be_class(link)):
                yield Found(parts, is_folder=True, reason=LINK if leaves else None)
                if len(parts) < _LEVELS and not leaves:
                    yield from self._walk(parts)
            elif leaves:
                yield Found(parts, is_folder=False, reason=LINK)
            else:
                yield Found(
                    parts, is_folder=False, reason=None if entry.is_file() else "is not a regular file"
                )

    def _leaves(self, link: Path) -> bool:
        """Whether a link leaves the folder or leads nowhere."""
        return not (link.exists() and link.resolve().is_relative_to(self._folder))

    def _may_be_class(self, link: Path) -> bool:
        """Whether a link leads nowhere, and may have led to the folder of a class."""
        return not link.exists() and not is_image_name(link.name)


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


def read_image_file(path: str | Path) -> bytes:
    """The content of an image file, or a byte more than is allowed.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    # Without waiting: a pipe that has taken the file's place would let nobody go on.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no longer a regular file", str(path))
        # One byte more than is allowed shows that there is too much, without reading all of it.
        content = os.read(descriptor, min(status.st_size, ENCODED_BYTES_LIMIT) + 1)
        if len(content) == min(status.st_size, ENCODED_BYTES_LIMIT + 1):
            return content
        # It grows, or comes in pieces.
        pieces, left = [content], ENCODED_BYTES_LIMIT + 1 - len(content)
        while piece := os.read(descriptor, min(left, _PIECE_BYTES)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


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

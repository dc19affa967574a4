"""A tar or zip archive of an image folder, here or in a store, which is not unpacked to files."""

import contextlib
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

from optduel.components.core import DataError, say
from optduel.components.prepare.image import ENCODED_BYTES_LIMIT
from optduel.components.prepare.sources.archives import COMPRESSIONS, scan_archive
from optduel.components.prepare.sources.folder import too_long
from optduel.components.prepare.sources.kept_bytes import OpenBytes
from optduel.components.prepare.sources.layout import (
    Found,
    data_set_name,
    describe_tree,
    found_in,
    lay_out,
)
from optduel.components.records import make_room, staging_folder
from optduel.components.settings import FolderSource
from optduel.components.storage import Download, as_storage_error, download, is_remote, local_path, stat

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
"""Endings of archives' names."""

_LINK = "is a link: put the file itself into the archive"


class ImageArchive:
    """Images in class folders within an archive, by the same rules as in a folder, and the same records.

    A folder that all others are in is passed over, as archives of one folder have it.

    Args:
        source: the archive's path or URI.

    Raises:
        DataError: no archive, a damaged or hostile one, or one whose folders are not those of classes.
        StorageError: it cannot be read, or there is no room for it.
    """

    def __init__(self, source: FolderSource) -> None:
        where = f"data.source.path = {source.path}"
        name = source.path.rstrip("/").rpartition("/")[2]
        self.name = data_set_name(_stem(name))
        self.description = describe_tree("archive", name)
        with contextlib.ExitStack() as stack:
            path = _local_copy(source.path, where, stack)
            scan_archive(path)
            try:
                self._open(path)
            except OSError as error:
                raise as_storage_error(error, path) from error
        found, start = _within_one_folder(found_in(self._files))
        layout = lay_out(where, source.path, found)
        self.classes, self.examples, self.problems = layout.classes, layout.examples, layout.problems
        self._places = [start + tuple(example.id.split("/")) for example in self.examples]

    def read(self, position: int) -> bytes:
        """Reads a member."""
        member = self._members[self._places[position]]
        if not isinstance(member, zipfile.ZipInfo):
            return self._file.read(*member)
        try:
            with self._lock:
                opened = cast(zipfile.ZipFile, self._zip).open(member)
            with opened:
                return opened.read(ENCODED_BYTES_LIMIT + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise OSError(None, f"{error}; make the archive anew") from error

    def _open(self, path: Path) -> None:
        self._files: list[tuple[tuple[str, ...], str | None]] = []
        self._members: dict[tuple[str, ...], zipfile.ZipInfo | tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._zip = zipfile.ZipFile(path) if zipfile.is_zipfile(path) else None
        if self._zip:
            for entry in self._zip.infolist():
                self._add(entry.filename, too_long(entry.file_size), entry)
            return
        with _uncompressed(path) as file, tarfile.TarFile(fileobj=file) as archive:
            self._file = OpenBytes(file)
            for member in archive:
                name = f"{member.name}/" if member.isdir() else member.name
                reason = too_long(member.size) if member.isfile() or member.isdir() else _LINK
                self._add(name, reason, (member.offset_data, member.size))
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all

    def _add(self, name: str, reason: str | None, member: zipfile.ZipInfo | tuple[int, int]) -> None:
        parts = tuple(part for part in name.split("/")[:-1] if part not in ("", "."))
        last = name.rpartition("/")[2]
        if parts or last:
            # Of two members of one name the later one counts, as when an archive is unpacked.
            if (place := (*parts, last)) not in self._members:
                self._files.append((place, reason))
            self._members[place] = member


def _stem(name: str) -> str:
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def is_archive(path: str) -> bool:
    """Whether a place is called like an archive; a folder of such a name is none."""
    if not path.lower().endswith(SUFFIXES):
        return False
    return is_remote(path) or not local_path(path).is_dir()


def _local_copy(path: str, where: str, stack: contextlib.ExitStack) -> Path:
    """The archive on this machine; what comes from a store is gone when the stack is closed."""
    if not is_remote(path):
        place = local_path(path)
        if not place.is_file():
            raise DataError(f"{where}: no such file")
        return place
    entry = stat(path)
    if entry is None:
        raise DataError(f"{where}: no such object")
    make_room(entry.bytes, path)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=staging_folder())))
    say(f"prepare: fetching {path}, {entry.bytes:,} bytes")
    place = folder / path.rpartition("/")[2]
    download([Download(path, place, entry.bytes, entry.crc32c)])
    return place


def _uncompressed(path: Path) -> IO[bytes]:
    """The open tar archive; a compressed one is unpacked to a nameless file, gone with the process."""
    file = path.open("rb")
    start = file.read(6)
    file.seek(0)
    reader = next((reader for magic, reader in COMPRESSIONS if start.startswith(magic)), None)
    if reader is None:
        return file
    unpacked = tempfile.TemporaryFile(dir=staging_folder())  # noqa: SIM115
    file.close()
    with reader(path) as content:
        shutil.copyfileobj(cast(IO[bytes], content), unpacked, 1 << 20)
    unpacked.flush()
    unpacked.seek(0)
    return unpacked


def _within_one_folder(found: list[Found]) -> tuple[list[Found], tuple[str, ...]]:
    """The tree below the one folder that holds all others, and the parts that lead there."""
    start: tuple[str, ...] = ()
    while True:
        tops = {entry.parts[0] for entry in found if entry.is_folder and len(entry.parts) == 1}
        has_more = any(entry.is_folder and len(entry.parts) == 2 for entry in found)
        if len(tops) != 1 or not has_more:
            return found, start
        start += tuple(tops)
        found = [
            entry._replace(parts=entry.parts[1:])
            for entry in found
            if entry.parts[0] in tops and len(entry.parts) > 1
        ]

"""Publishes and reads local files."""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal

import google_crc32c

from optduel.components.core import ConflictError, RefusedError, StorageError
from optduel.components.storage.entry import ABSENT, Entry, size_and_checksum
from optduel.components.storage.location import Location, local_path

UNFINISHED = ".part"
"""Ends the names of hidden files that are being written."""

_NO_LINKS = ("EPERM", "EACCES", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EMLINK", "EXDEV")
"""How file systems say that they have no hard links: FAT, many of FUSE and of network storage."""

_BLOCK_BYTES = 1 << 20

_BUFFER_BYTES = 1 << 18
"""Clients hand over 8 KiB at a time, and threads that download wait for one another at every system call."""


def stat_file(path: Path) -> Entry | None:
    """The file at `path`, or None where there is no regular file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise as_storage_error(error, path) from error
    return _described(path, found) if stat.S_ISREG(found.st_mode) else None


def kind_of(location: Location) -> Literal["file", "folder", "other"] | None:
    """What stands at a local place, behind links; None for nothing.

    Raises:
        StorageError: it is not local, or cannot be looked at.
    """
    path = local_path(location)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise as_storage_error(error, path) from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def resolved(location: Location) -> Path:
    """The absolute path of a local place, without links.

    Raises:
        StorageError: it is not local, its links lead back to themselves, or the current folder, which it is
            relative to, is gone.
    """
    path = local_path(location)
    try:
        return path.resolve()
    except RuntimeError as error:  # of Python before 3.13
        raise as_storage_error(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), path) from error
    except FileNotFoundError as error:
        raise StorageError(f"{path}: the current folder is gone; change to another one") from error
    except OSError as error:
        raise as_storage_error(error, path) from error


def read_file(path: Path) -> bytes:
    """The content of a file. Raises StorageError where it is absent or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise as_storage_error(error, path) from error


def read_file_part(path: Path, start: int, size: int) -> bytes:
    """`size` bytes of a file from `start` on. Raises StorageError where it has fewer or cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            found = os.pread(file.fileno(), size, start)
    except OSError as error:
        raise as_storage_error(error, path) from error
    if len(found) != size:
        raise StorageError(f"{path}: ends at byte {start + len(found)}; write it again")
    return found


@contextlib.contextmanager
def publishing_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that appears at `path`, complete and on disk, when the body ends without an exception.

    Raises:
        StorageError: the place cannot be written, for example because the disk is full.
    """
    with unfinished(path) as (file, temporary):
        yield file
        _finish(file)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def publish_file(path: Path, content: bytes, expected: str | None) -> Entry:
    """Writes a whole file, if what stands at `path` is what is expected.

    Args:
        expected: the version that must stand there at that moment; ABSENT for none, None for any.

    Raises:
        ConflictError: another version stands there.
        StorageError: the place cannot be written.
    """
    with unfinished(path) as (file, temporary):
        file.write(content)
        _finish(file)
        if expected is None:
            written = _described(path, os.stat(temporary))
            os.replace(temporary, path)
        elif expected == ABSENT:
            written = _described(path, os.stat(temporary))
            _create(temporary, path)
        else:
            written = _exchange(temporary, path, expected)
        _sync_folder(path.parent)
    return written


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """A hidden file beside `path`, gone at the end unless it was renamed."""
    prefix = f".{path.name}."
    try:
        _make_folder(path.parent)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=UNFINISHED)
        try:
            with os.fdopen(descriptor, "wb", _BUFFER_BYTES) as file:
                yield file, temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        if os.path.basename(str(error.filename)).startswith(prefix):
            error.filename = str(path)  # the temporary name means nothing to the user
        raise as_storage_error(error, path) from error


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and puts their names on disk."""
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(absent):
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    """Puts the folder's names on disk: without it a power failure takes the file that was renamed to one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # A file system that cannot do it, or a folder that may be written to but not be read.
        if errno_name(error) not in ("EINVAL", "EACCES"):
            raise


def _finish(file: IO[bytes]) -> None:
    """Puts the content on disk."""
    file.flush()
    os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())


def _create(temporary: str, path: Path) -> None:
    """Puts a new file in its place; without hard links only writers on this host are kept out."""
    exists = f"{path}: exists already; read it and decide again"
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError as error:
        raise ConflictError(exists) from error
    except OSError as error:
        if errno_name(error) not in _NO_LINKS:
            raise
        with _locked(path.parent):
            if os.path.lexists(path):
                raise ConflictError(exists) from error
            os.replace(temporary, path)


def _exchange(temporary: str, path: Path, expected: str) -> Entry:
    with _locked(path.parent):
        found = stat_file(path)
        if found is None or found.version != expected:
            raise ConflictError(f"{path}: was changed by another writer; read it and decide again")
        # The clock of a file system ticks slowly: two writes within a tick must differ in version.
        changed = max(time.time_ns(), path.stat().st_mtime_ns + 1)
        os.utime(temporary, ns=(changed, changed))
        written = _described(path, os.stat(temporary))
        os.replace(temporary, path)
    return written


def _described(path: Path, found: os.stat_result) -> Entry:
    version = f"{found.st_mtime_ns}-{found.st_ino}-{found.st_size}"
    return Entry(uri=str(path), bytes=found.st_size, crc32c=None, version=version)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Excludes the other writers on this host that replace a version in the same folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # ends with the process, whatever ends it
        yield
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path, size: int | None = None, crc32c: str | None = None) -> Entry:
    """Copies a file, which appears at `target` whole and checked.

    Args:
        size: bytes that it must have, where known.
        crc32c: that it must have, where known.

    Raises:
        StorageError: a file cannot be read or written, or is not the expected one.
    """
    copied, checksum = 0, 0
    with unfinished(target) as (file, temporary), _opened(source) as original:
        while block := original.read(_BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
            copied += file.write(block)
        found = f"{checksum:08x}"
        if size not in (None, copied) or crc32c not in (None, found):
            content, expected = size_and_checksum(copied, found), size_and_checksum(size, crc32c)
            raise StorageError(f"{source}: has {content}, not the expected {expected}; write it again")
        _finish(file)
        os.replace(temporary, target)
        _sync_folder(target.parent)
        return replace(_described(target, os.fstat(file.fileno())), crc32c=found)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise as_storage_error(error, path) from error
    with file:
        yield file


def list_files(folder: Path) -> list[Entry]:
    """The files below a folder, sorted; none where there is no folder, and none that are being written."""
    if kind_of(folder) not in (None, "folder"):
        raise RefusedError(f"{folder}: is a file; give a folder")
    found = []
    for directory, _, names in os.walk(folder, onerror=_raise_unless_absent):
        for name in names:
            if name.startswith(".") and name.endswith(UNFINISHED):
                continue
            entry = stat_file(Path(directory, name))
            if entry is not None:
                found.append(entry)
    return sorted(found, key=lambda entry: entry.uri)


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise as_storage_error(error, Path(str(error.filename))) from error


def delete_file(path: Path) -> None:
    """Removes a file, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise as_storage_error(error, path) from error


def delete_unfinished_files(folder: Path) -> None:
    """Removes what killed writers have left below a folder."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        delete_file(path)


_REMEDIES = {
    "ENOSPC": "free some space there or choose another place",
    "EDQUOT": "your quota is used up: free some space there or choose another place",
    "EACCES": "grant access or choose another place",
    "EROFS": "choose a writable place",
    "ENOENT": "check the spelling",
    "ENOTDIR": "a part of it is a file: check the spelling",
    "EISDIR": "give a file",
    "EEXIST": "remove it or choose another place",
    "ENAMETOOLONG": "choose a shorter one",
    "ELOOP": "its links lead back to themselves: remove one of them",
    "EMFILE": "raise the limit of open files (ulimit -n)",
    "EIO": "the device does not answer as it should: check it, or choose another place",
}

_REFUSALS = {"EACCES", "EEXIST", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOENT", "ENOTDIR", "EPERM", "EROFS"}
"""Errors that come again whenever the operation is tried again."""


def as_storage_error(error: OSError, path: Path) -> StorageError:
    """Names the place, the cause and the remedy of a failed file operation; tells whether it can pass."""
    name = errno_name(error)
    place = error.filename if isinstance(error.filename, str) else str(path)
    kind = RefusedError if name in _REFUSALS else StorageError
    return kind(f"{place}: {error.strerror or error}; {_REMEDIES.get(name, 'check the place')}")


def errno_name(error: OSError) -> str:
    """The symbolic name of the error number, or an empty string."""
    return errno.errorcode.get(error.errno or 0, "")

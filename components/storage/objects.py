"""Reads and writes whole objects, wherever they lie."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from optduel.components.storage import local, remote
from optduel.components.storage.content import BytesContent, FileContent
from optduel.components.storage.entry import ABSENT, Entry
from optduel.components.storage.location import Location, is_remote, local_path


def read(location: Location) -> bytes:
    """The content of an object, checked against the checksum that its store gives.

    Raises:
        StorageError: it is absent, cannot be read, or differs from its checksum.
    """
    if is_remote(location):
        return remote.read(str(location))
    return local.read_file(local_path(location))


def read_part(location: Location, start: int, size: int) -> bytes:
    """A part of an object, which no checksum of the store's covers: its content has to prove itself.

    Args:
        start: where it begins, in bytes.
        size: bytes, all of which the object has; at least one.

    Raises:
        StorageError: it is absent, cannot be read, or ends before.
    """
    if is_remote(location):
        return remote.read_part(str(location), start, size)
    return local.read_file_part(local_path(location), start, size)


def publish(
    location: Location, content: bytes, *, if_absent: bool = False, if_version: str | None = None
) -> Entry:
    """Writes a whole object: readers see the old content, or none, until all of the new one is there.

    A condition is honoured against every other writer of an object store, and on local files against those on
    this host that give a condition too. Two writers at the same moment: one wins, the others lose.

    Args:
        if_absent: only where no object is.
        if_version: only where the object still has this version, as `stat` or `publish` returned it.

    Returns:
        The object as written.

    Raises:
        ConflictError: the condition does not hold: another writer was first.
        StorageError: the place cannot be written.
    """
    expected = ABSENT if if_absent else if_version
    if is_remote(location):
        return remote.write(str(location), BytesContent(content), expected)
    return local.publish_file(local_path(location), content, expected)


@contextlib.contextmanager
def publishing(location: Location) -> Iterator[IO[bytes]]:
    """Opens a file whose content appears at `location` as a whole when the body ends without an exception.

    Readers see the old content, or none, until then; after a failure nothing of the new content is left. For
    a remote place the content waits in a nameless file of the temporary directory, gone with the process.

    Raises:
        StorageError: the place cannot be written, for example because the disk is full.
    """
    if not is_remote(location):
        with local.publishing_file(local_path(location)) as file:
            yield file
        return
    try:
        with tempfile.TemporaryFile() as file:
            yield file
            file.flush()
            remote.write(str(location), FileContent(file.fileno()), None)
    except OSError as error:
        raise local.as_storage_error(error, Path(tempfile.gettempdir())) from error


def stat(location: Location) -> Entry | None:
    """What the store knows about an object, or None where there is none.

    Raises:
        StorageError: the place cannot be reached.
    """
    if is_remote(location):
        return remote.stat(str(location))
    return local.stat_file(local_path(location))


def list_entries(folder: Location) -> list[Entry]:
    """The objects below a folder at any depth, sorted by URI; none where the folder does not exist.

    Raises:
        StorageError: the place cannot be reached, or its bucket does not exist.
    """
    if is_remote(folder):
        return remote.list_entries(str(folder))
    return local.list_files(local_path(folder))


def delete(location: Location) -> None:
    """Removes an object; where there is none, nothing happens.

    Raises:
        StorageError: the place cannot be written.
    """
    if is_remote(location):
        remote.delete(str(location))
    else:
        local.delete_file(local_path(location))


def delete_unfinished(folder: Location) -> None:
    """Removes what killed writers have left below a folder; to be called where nobody writes.

    A store keeps nothing of an object that is not complete.

    Raises:
        StorageError: the place cannot be written.
    """
    if not is_remote(folder):
        local.delete_unfinished_files(local_path(folder))

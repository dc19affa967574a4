"""Opens places for every stage: objects appear whole or not at all.

This version speaks local paths and `file://`; every other scheme is refused here and nowhere else.
"""

import contextlib
import errno
import os
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from components.core.errors import StorageError


def local_path(uri: str) -> Path:
    """The path that a local URI names.

    Raises:
        StorageError: the scheme is not supported, or the place is on another host.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return Path(uri)
    if scheme != "file":
        raise StorageError(f"{uri}: scheme {scheme} is not supported by this version; give a directory")
    parts = urllib.parse.urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise StorageError(f"{uri}: names the host {parts.netloc}; an absolute path starts with file:///")
    return Path(urllib.parse.unquote(parts.path))


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that appears at `path`, complete and on disk, when the body ends without an exception.

    Readers see the old content, or none, until then; after a failure nothing of the new content is left.

    Raises:
        StorageError: the place cannot be written, for example because the disk is full.
    """
    prefix = f".{path.name}."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if os.path.basename(str(error.filename)).startswith(prefix):
            error.filename = str(path)  # the temporary name means nothing to the user
        raise as_storage_error(error, path) from error


def publish(path: Path, content: bytes) -> None:
    """Writes a whole file atomically. Raises StorageError as `publishing` does."""
    with publishing(path) as file:
        file.write(content)


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        StorageError: it is absent or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise as_storage_error(error, path) from error


def as_storage_error(error: OSError, path: Path) -> StorageError:
    """Names the place, the cause and the remedy of a failed file operation."""
    remedies = {
        "ENOSPC": "free some space or choose another place with --root",
        "EDQUOT": "your quota is used up; choose another place with --root",
        "EACCES": "grant access or choose another place with --root",
        "EROFS": "choose a writable place with --root",
        "ENOENT": "check the spelling",
    }
    remedy = remedies.get(errno_name(error), "check the place")
    place = error.filename if isinstance(error.filename, str) else str(path)
    return StorageError(f"{place}: {error.strerror or error}; {remedy}")


def errno_name(error: OSError) -> str:
    """The symbolic name of the error number, or an empty string."""
    return errno.errorcode.get(error.errno or 0, "")

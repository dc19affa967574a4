"""Folders and files that a run holds: the kernel lets go of them when its process ends, however it ends."""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from optduel.components.core import StorageError

_PREFIX = "optduel-run-"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder of this process; first removes those of processes that were killed.

    Raises:
        StorageError: there is no place for temporary files.
    """
    try:
        _remove_abandoned()
    except FileNotFoundError as error:
        raise StorageError(f"TMPDIR: {error.strerror}; free some space, or name a writable folder") from error
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # else another run took it for an abandoned one before it was held
            break
        os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Somebody else's, or held by a run.
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def this_machine() -> str:
    """Tells machines apart, and containers with networks of their own."""
    return f"{socket.gethostname()}-{uuid.getnode():012x}"


def create_held(path: Path) -> int:
    """Creates a file and holds it until its descriptor is closed; what stands there is never followed.

    Returns:
        The descriptor, for writing.

    Raises:
        OSError: something stands there already, or the file cannot be created.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with contextlib.suppress(
        OSError
    ):  # some network storage has no locks: `is_held` cannot tell there either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process of this machine may hold the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

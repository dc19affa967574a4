"""Where copies of stored objects lie: a private folder, limited, and cleared of what nobody uses any more.

Each data set has a folder of its own in it. Whoever uses one holds a lock on it, which ends with the process.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from pathlib import Path

from optduel.components.core import RefusedError, SetupError, StorageError, say
from optduel.components.storage import as_storage_error, list_entries

STAGING_VARIABLE = "OPTDUEL_STAGING"
"""Names the place of the folder; /var/tmp by default, or what TMPDIR names."""

BUDGET_VARIABLE = "OPTDUEL_STAGING_BYTES"
"""Names how many bytes all that lies in the folder may take; no limit but the disk's by default."""

KEPT_SECONDS = 7 * 86_400.0
"""How long copies stay that nobody uses, as long as there is room."""

_REMOVED = ".removed-"

_ON_DISK = Path("/var/tmp")
"""/tmp may be memory, this is kept over a restart (Filesystem Hierarchy Standard 3.0, section 5.15)."""


def staging_folder() -> Path:
    """The folder, made where it is absent: `optduel-staging-<user's number>` in the place that is named.

    Raises:
        StorageError: it cannot be made, is a link, or others may write to it.
    """
    named = os.environ.get(STAGING_VARIABLE)
    place = Path(named) if named else _default_place()
    folder = place / f"optduel-staging-{os.getuid()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Everybody may write to such places, so somebody else may have put there what stands there.
        found = folder.lstat()
    except OSError as error:
        raise as_storage_error(error, folder) from error
    remedy = f"name a folder in {STAGING_VARIABLE}"
    if not stat.S_ISDIR(found.st_mode):
        raise RefusedError(f"{folder}: is a link or a file; remove it, or {remedy}")
    if found.st_uid != os.getuid():
        raise RefusedError(f"{folder}: belongs to another user; {remedy}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(f"{folder}: others may write to it; run chmod 700 {folder}, or {remedy}")
    return folder


def _default_place() -> Path:
    if "TMPDIR" not in os.environ and os.access(_ON_DISK, os.W_OK | os.X_OK):
        return _ON_DISK
    return Path(tempfile.gettempdir())


def hold(folder: Path) -> int:
    """Makes a folder of copies where it is absent, and keeps it from being removed.

    Returns:
        A descriptor; the folder may be removed once it is closed, at the end of the process at the latest.

    Raises:
        StorageError: the folder cannot be made.
    """
    try:
        while True:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # another process has just removed it
                continue
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    os.utime(folder)
                    return descriptor
            os.close(descriptor)
    except OSError as error:
        raise as_storage_error(error, folder) from error


def make_room(needed_bytes: int, what: str) -> None:
    """Removes copies that nobody uses, as far as need be, and tells if that is too little.

    Args:
        needed_bytes: of the copies that are still to be made.
        what: they are copies of, for the message.

    Raises:
        StorageError: the disk or the budget has less room.
        SetupError: the budget is no number.
    """
    staging = staging_folder()
    budget = _budget()
    try:
        folders = [entry for kind in ("records", "tfds") for entry in (staging / kind).glob("*")]
        ages = sorted((entry.stat().st_mtime, entry) for entry in folders if entry.is_dir())
    except FileNotFoundError:  # another process makes room, too
        ages = []
    except OSError as error:
        raise as_storage_error(error, staging) from error
    for last_used, folder in ages:
        if time.time() - last_used > KEPT_SECONDS or _shortage(staging, needed_bytes, budget):
            _remove(folder)
    if shortage := _shortage(staging, needed_bytes, budget):
        raise StorageError(f"{staging}: copies of {what} need {needed_bytes:,} bytes, but {shortage}")


def free_room() -> int:
    """Bytes that may still lie in the folder of copies: what the disk has, and no more than the budget.

    Raises:
        StorageError: there is no such folder.
        SetupError: the budget is no number.
    """
    staging = staging_folder()
    free, budget = shutil.disk_usage(staging).free, _budget()
    if budget is None:
        return free
    return max(0, min(free, budget - sum(entry.bytes for entry in list_entries(staging))))


def _shortage(staging: Path, needed_bytes: int, budget: int | None) -> str | None:
    """What is wrong with the room for so many bytes, or None."""
    free = shutil.disk_usage(staging).free
    if needed_bytes > free:
        return f"{free:,} are free; free some, or name another folder in {STAGING_VARIABLE}"
    if budget is not None:
        left = max(0, budget - sum(entry.bytes for entry in list_entries(staging)))
        if needed_bytes > left:
            remedy = f"raise {BUDGET_VARIABLE} or delete what is not needed there"
            return f"{left:,} are left of a budget of {budget:,}; {remedy}"
    return None


def _remove(folder: Path) -> None:
    """Removes a folder of copies unless somebody holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever comes now makes a new one: under its name no file is removed.
        removed = folder.rename(folder.with_name(f"{_REMOVED}{uuid.uuid4().hex}"))
        shutil.rmtree(removed, ignore_errors=True)
        say(f"removed copies that nobody uses: {folder}")
    except (BlockingIOError, FileNotFoundError):  # in use, or removed by another process
        return
    finally:
        os.close(descriptor)


def _budget() -> int | None:
    text = os.environ.get(BUDGET_VARIABLE)
    if text is None:
        return None
    if not text.isdecimal():
        raise SetupError(f"{BUDGET_VARIABLE} = {text!r}: must be a number of bytes")
    return int(text)

"""The local folder for copies of what lies in stores, and the room that there is for them."""

import os
import shutil
import tempfile
from pathlib import Path

from optduel.components.core.errors import SetupError, StorageError
from optduel.components.storage.local import as_storage_error
from optduel.components.storage.objects import list_entries

STAGING_VARIABLE = "OPTDUEL_STAGING"
"""Names the folder; below the temporary directory by default."""

BUDGET_VARIABLE = "OPTDUEL_STAGING_BYTES"
"""Names how many bytes all that lies in the folder may take; no limit but the disk's by default."""


def staging_folder() -> Path:
    """The folder, made where it is absent.

    Raises:
        StorageError: it cannot be made, or is not this user's own.
    """
    named = os.environ.get(STAGING_VARIABLE)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"optduel-staging-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Everybody may write to the temporary directory, so somebody else may have made this one.
        if not named and folder.stat().st_uid != os.getuid():
            raise StorageError(f"{folder}: belongs to another user; name a folder in {STAGING_VARIABLE}")
    except OSError as error:
        raise as_storage_error(error, folder) from error
    return folder


def check_room(needed_bytes: int, what: str) -> None:
    """Tells before the first byte arrives that the copies would not fit.

    Args:
        needed_bytes: of the copies that are still to be made.
        what: they are copies of, for the message.

    Raises:
        StorageError: the disk or the budget has less room.
        SetupError: the budget is no number.
    """
    folder = staging_folder()
    remedy = f"free some, or name another folder in {STAGING_VARIABLE}"
    rooms = [(shutil.disk_usage(folder).free, f"are free; {remedy}")]
    if (budget := _budget()) is not None:
        used = sum(entry.bytes for entry in list_entries(folder))
        remedy = f"raise {BUDGET_VARIABLE} or delete what is not needed there"
        rooms.append((max(0, budget - used), f"are left of a budget of {budget:,}; {remedy}"))
    for room, rest in rooms:
        if needed_bytes > room:
            raise StorageError(
                f"{folder}: needs {needed_bytes:,} bytes for copies of {what}, of which {room:,} {rest}"
            )


def _budget() -> int | None:
    text = os.environ.get(BUDGET_VARIABLE)
    if text is None:
        return None
    if not text.isdecimal():
        raise SetupError(f"{BUDGET_VARIABLE} = {text!r}: must be a number of bytes")
    return int(text)

"""Checkpoints: one object each, appears whole, is verified when read, and holds all a run needs to go on.

An object is an NPZ archive of arrays without pickles, whose members carry CRCs, plus one JSON member, which
names the others. What arrives from a store is compared with the CRC-32C that the store keeps, too.
"""

import contextlib
import errno
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optduel.components.core import DamagedError, RefusedError, TrainingError, say
from optduel.components.decoding import parse_object
from optduel.components.storage import (
    Download,
    as_storage_error,
    delete,
    delete_unfinished,
    download,
    is_remote,
    join,
    list_entries,
    local_path,
    publishing,
    stat,
)

_META = "meta"

_DAMAGE = (
    FileNotFoundError,  # deleted since it was listed
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,  # encrypted, or (NotImplementedError) of another version
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged archive raises."""

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial after `step` optimizer steps.

    Attributes:
        step: optimizer steps done.
        identity: what the trial is; a run resumes only from a checkpoint of its own identity.
        arrays: weights, slots and other variables by name, in the shapes and types of the variables.
        state: what else the loop has to remember, JSON values.
    """

    step: int
    identity: str
    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]


def save(folder: str, checkpoint: Checkpoint, kept: int) -> None:
    """Publishes a checkpoint and deletes all but the newest `kept` up to it.

    Those after it go too: a trial that comes to an earlier step has found them damaged when it resumed.

    Args:
        folder: a path or a URI.

    Raises:
        StorageError: it cannot be written; those that exist stay.
    """
    meta = json.dumps(
        {
            "step": checkpoint.step,
            "identity": checkpoint.identity,
            "state": checkpoint.state,
            "arrays": sorted(checkpoint.arrays),
        }
    )
    name = f"step-{checkpoint.step:010d}.npz"
    with publishing(join(folder, name)) as file:
        np.savez(
            file, allow_pickle=False, **{_META: np.frombuffer(meta.encode(), np.uint8), **checkpoint.arrays}
        )
    places = _saved(folder)
    wanted = [place for place in places if _name(place) <= name][-kept:]
    for place in places:
        if place not in wanted:
            delete(place)


def latest(folder: str, identity: str) -> Checkpoint | None:
    """The newest whole checkpoint; a damaged one is skipped, and named in the narration.

    Args:
        folder: where `save` put them, a path or a URI; it need not exist.
        identity: what the trial is.

    Raises:
        TrainingError: the newest whole checkpoint belongs to another trial.
        StorageError: the store or the disk cannot be read now: whether there is one is not known.
    """
    for place in reversed(_saved(folder)):
        try:
            with _as_file(place) as path:
                found = _load(path)
        except DamagedError as error:
            say(f"{place}: damaged checkpoint skipped ({error})")
            continue
        except RefusedError:
            if stat(place):
                raise
            continue  # deleted since it was listed
        if found.identity != identity:
            raise TrainingError(f"{place}: belongs to another trial; delete the folder to train afresh")
        return found
    return None


def discard(folder: str) -> None:
    """Deletes all checkpoints, the newest last: a trial that is interrupted meanwhile goes on from it.

    With them goes what killed writers have left.
    """
    for place in _saved(folder):
        delete(place)
    delete_unfinished(folder)


@contextlib.contextmanager
def _as_file(place: str) -> Iterator[Path]:
    """The content as a file of this machine."""
    if not is_remote(place):
        yield local_path(place)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
            copy = Path(scratch) / "checkpoint.npz"
            download([Download(place, copy)])
            yield copy
    except OSError as error:
        raise as_storage_error(error, Path(tempfile.gettempdir())) from error


def _load(path: Path) -> Checkpoint:
    """Raises DamagedError where the file is no whole checkpoint, StorageError where it cannot be read now."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = parse_object(bytes(arrays.pop(_META)))
        step, identity, named, state = (meta[part] for part in ("step", "identity", "arrays", "state"))
    except _DAMAGE as error:
        raise DamagedError(str(error)[:_SHOWN_CHARACTERS]) from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # the archive names a place before the file's beginning
            raise DamagedError(str(error)) from error
        raise as_storage_error(error, path) from error
    # A wrong length in the archive's directory hides what follows; what it calls empty is read as bytes.
    whole = sorted(name for name, array in arrays.items() if isinstance(array, np.ndarray))
    if whole != named:
        raise DamagedError(f"{len(whole)} arrays are there, and not those that it names")
    return Checkpoint(step, identity, arrays, state)


def _saved(folder: str) -> list[str]:
    """All checkpoints, by step."""
    places = [entry.uri for entry in list_entries(folder)]
    return sorted(place for place in places if _name(place).startswith("step-"))


def _name(place: str) -> str:
    return place.rpartition("/")[2]

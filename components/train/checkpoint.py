"""Checkpoints: one file each, that appears whole, is verified when read, and holds all a run needs to go on.

A file is an NPZ archive of arrays without pickles, whose members carry CRCs, plus one JSON member.
"""

import concurrent.futures
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import TrainingError
from components.core.narration import say
from components.core.storage import publishing

_META = "meta"


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


def save(folder: Path, checkpoint: Checkpoint, kept: int) -> None:
    """Publishes a checkpoint and deletes all but the newest `kept`.

    Raises:
        StorageError: it cannot be written; those that exist stay.
    """
    meta = json.dumps({"step": checkpoint.step, "identity": checkpoint.identity, "state": checkpoint.state})
    with publishing(folder / f"step-{checkpoint.step:010d}.npz") as file:
        np.savez(file, allow_pickle=False, **{_META: np.array(meta), **checkpoint.arrays})
    for old in _files(folder)[:-kept]:
        old.unlink()


class BackgroundWriter:
    """Saves checkpoints while training goes on: one at a time, in a thread.

    Args:
        folder: where they go.
        kept: how many of the newest stay.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self._folder = folder
        self._kept = kept
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: concurrent.futures.Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begins to save, once the one before is saved. Raises StorageError where that one could not be."""
        self.wait()
        self._last = self._executor.submit(save, self._folder, checkpoint, self._kept)

    def wait(self) -> None:
        """Returns when all is saved. Raises StorageError where it could not be."""
        if self._last:
            self._last.result()


def latest(folder: Path, identity: str) -> Checkpoint | None:
    """The newest checkpoint that can be read; a damaged one is skipped, and named in the narration.

    Args:
        folder: where `save` put them; it need not exist.
        identity: what the trial is.

    Raises:
        TrainingError: the newest readable checkpoint belongs to another trial.
    """
    for path in reversed(_files(folder)):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            meta = json.loads(str(arrays.pop(_META)))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            say(f"{path}: damaged checkpoint skipped ({error})")
            continue
        if meta["identity"] != identity:
            raise TrainingError(f"{path}: belongs to another trial; delete the folder to train afresh")
        return Checkpoint(meta["step"], identity, arrays, meta["state"])
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.npz"))

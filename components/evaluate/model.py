"""Reads a trained model from where training has put it."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from optduel.components.core import DataError
from optduel.components.numerics import set_up_libraries
from optduel.components.records import Manifest
from optduel.components.storage import Download, Location, as_storage_error, download, is_remote, local_path

if TYPE_CHECKING:
    import keras


def load_model(
    location: Location, sha256: str, manifest: Manifest, classes: int | None = None
) -> "keras.Model":
    """A model in Keras' format, in a process that computes as training does from now on.

    Args:
        location: a path or a URI.
        sha256: of the file that training wrote.
        manifest: of records that it shall fit.
        classes: that it knows; those of the records unless given.

    Raises:
        DataError: it is another file, would run code of its own when loaded, or does not fit the records.
        StorageError: it cannot be read.
    """
    set_up_libraries()
    import keras

    with _local_copy(location) as path:
        if (digest := _sha256(path)) != sha256:
            raise DataError(f"{location}: SHA-256 {digest}, training wrote {sha256}; train again")
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:
            # What Keras raises for a file that is damaged, or that would run code of its own when loaded.
            reason = str(error).splitlines()[0]
            raise DataError(f"{location}: cannot be loaded in safe mode: {reason}; train again") from error
    expected = len(manifest.classes) if classes is None else classes
    if model.input_shape[1:] != manifest.image_shape or model.output_shape[-1] != expected:
        raise DataError(
            f"{location}: takes images {model.input_shape[1:]} of {model.output_shape[-1]} classes, "
            f"the records hold {manifest.image_shape} of {expected}"
        )
    return model


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise as_storage_error(error, path) from error


@contextlib.contextmanager
def _local_copy(location: Location) -> Iterator[Path]:
    """Keras reads from a path."""
    if not is_remote(location):
        yield local_path(location)
        return
    with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
        path = Path(scratch) / "model.keras"
        download([Download(location, path)])
        yield path

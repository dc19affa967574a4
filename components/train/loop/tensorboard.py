"""A trial as TensorBoard shows it while it trains."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from optduel.components.core.errors import StorageError
from optduel.components.results.history import Row
from optduel.components.storage.bulk import Upload, upload
from optduel.components.storage.location import is_remote, join, local_path
from optduel.components.storage.objects import delete, list_entries

MEASURES = (
    "cross_entropy",
    "penalty",
    "total",
    "accuracy",
    "learning_rate",
    "decay",
    "gradient_norm",
    "weight_norm",
    "examples_per_second",
)
"""Columns of the history that TensorBoard shows, as "step" or "epoch"/column/split."""

# What tf.summary.scalar would write; that function needs TensorBoard itself to be installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    data_class=1, plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
)


class Events:
    """Writes events. TensorFlow appends them to a local file; a store is given that file whole, as it grows.

    Args:
        place: the folder that TensorBoard is pointed at, a path or a URI.
        scratch: a local folder for what goes to a store.
        rows: the history so far, of a trial that goes on.

    Raises:
        StorageError: the place cannot be written.
    """

    def __init__(self, place: str, scratch: Path, rows: Sequence[Row]) -> None:
        # Events of an attempt that was killed hold steps that come again, so all are written anew.
        for entry in list_entries(place):
            delete(entry.uri)
        self._place = place
        self._folder = scratch / "tensorboard" if is_remote(place) else local_path(place)
        self._writer = tf.summary.create_file_writer(str(self._folder))
        self.add(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Takes further rows of the history. Raises StorageError where they cannot be written."""
        with self._in_our_words(), self._writer.as_default():
            for row in rows:
                for measure in MEASURES:
                    tag = f"{row.event}/{measure}/{row.split}"
                    tf.summary.write(tag, tf.constant(getattr(row, measure)), row.step, metadata=_SCALAR)

    def publish(self) -> None:
        """Makes all that was added visible. Raises StorageError where the place cannot be written."""
        with self._in_our_words():
            self._writer.flush()
        if is_remote(self._place):
            files = sorted(self._folder.iterdir())
            upload([Upload(file, join(self._place, file.name)) for file in files])

    @contextlib.contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """TensorFlow's message: in the first line its graph, the file, and last the system's own word."""
        try:
            yield
        except tf.errors.OpError as error:
            cause = str(error.message).partition("\n")[0].partition(" [Op:")[0].rpartition("; ")[2]
            raise StorageError(
                f"{self._folder}: {cause}; free some space or choose another place with --root"
            ) from error

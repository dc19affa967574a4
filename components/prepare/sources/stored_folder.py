"""An image folder in an object store, read from there: no image is copied to the disk."""

from collections.abc import Sequence

from optduel.components.core.errors import DataError
from optduel.components.prepare.image import ENCODED_BYTES_LIMIT, is_image_name
from optduel.components.prepare.sources.class_folders import (
    BESIDE,
    UNPRINTABLE,
    WITHIN,
    data_set_name,
    is_hidden,
    problem,
    reason_against_file,
    refuse_unusable,
)
from optduel.components.prepare.sources.source import Example
from optduel.components.records.manifest import Skipped
from optduel.components.settings.experiment import FolderSource
from optduel.components.storage.location import join
from optduel.components.storage.objects import list_entries, read


class StoredFolder:
    """Images in class folders, by the same rules as in a local folder, and the same records.

    Args:
        source: the folder's URI.

    Raises:
        DataError: no objects, no class folders, or a class folder without images.
        StorageError: the folder cannot be listed.
    """

    def __init__(self, source: FolderSource) -> None:
        where = f"data.source.path = {source.path}"
        self._folder = source.path.rstrip("/")
        name = self._folder.rpartition("/")[2]
        self.name = data_set_name(name)
        self.description = f"image folder {name}"
        self.examples: list[Example] = []
        entries = list_entries(self._folder)
        if not entries:
            raise DataError(f"{where}: no such folder")
        sizes = {
            tuple(entry.uri.removeprefix(f"{self._folder}/").split("/")): entry.bytes for entry in entries
        }
        folders = {parts[0] for parts in sizes if len(parts) > 1}
        self.classes = tuple(sorted(name for name in folders if _is_class_name(name)))
        problems = [found for parts in sorted(sizes) if (found := self._look_at(parts, sizes[parts]))]
        self.problems: Sequence[Skipped] = list(dict.fromkeys(problems))  # a folder's objects all name it
        refuse_unusable(where, self.classes, self.examples, self.problems)

    def read(self, position: int) -> bytes:
        """Reads an image from the store, checked against its checksum there."""
        return read(join(self._folder, self.examples[position].id))

    def _look_at(self, parts: tuple[str, ...], size: int) -> Skipped | None:
        """Takes an object for an example, or tells why it is none; None also for what is ignored."""
        if any(is_hidden(part) for part in parts[:2]):
            return None
        if len(parts) == 1:
            return _beside(parts[0])
        folder, name, *deeper = parts
        if not _is_class_name(folder):
            return problem(folder, UNPRINTABLE)
        example = f"{folder}/{name}"
        if deeper:
            return problem(example, WITHIN if name.isprintable() else UNPRINTABLE)
        if reason := reason_against_file(name):
            return problem(example, reason)
        if size > ENCODED_BYTES_LIMIT:
            return problem(example, f"has {size:,} bytes, the limit is {ENCODED_BYTES_LIMIT:,}")
        self.examples.append(Example(example, self.classes.index(folder), is_named_file=True))
        return None


def _is_class_name(name: str) -> bool:
    return name != "" and name.isprintable() and not is_hidden(name)


def _beside(name: str) -> Skipped | None:
    if not name.isprintable():
        return problem(name, UNPRINTABLE)
    return problem(name, BESIDE) if is_image_name(name) else None

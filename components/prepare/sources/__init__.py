"""Where images come from: one file per kind of source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optduel.components.prepare.sources.digits import Digits
from optduel.components.prepare.sources.folder import Folder, StoredFolder
from optduel.components.prepare.sources.image_archive import ImageArchive, is_archive
from optduel.components.prepare.sources.source import Source, read_encoded
from optduel.components.prepare.sources.table import Table
from optduel.components.prepare.sources.tfds import Tfds
from optduel.components.settings import FolderSource
from optduel.components.storage import is_remote

__all__ = [
    "Digits",
    "Folder",
    "ImageArchive",
    "SOURCES",
    "Source",
    "StoredFolder",
    "Table",
    "Tfds",
    "read_encoded",
]


def _folder(source: FolderSource, _: Path) -> Source:
    if is_archive(source.path):
        return ImageArchive(source)
    return StoredFolder(source) if is_remote(source.path) else Folder(source)


SOURCES: dict[str, Callable[[Any, Path], Source]] = {
    "digits": lambda source, folder: Digits(),
    "folder": _folder,
    "table": lambda source, folder: Table(source),
    "tfds": Tfds,
}
"""What opens a source, by its kind: from its section and a folder for files that it makes."""

"""Where images come from: one file per kind of source."""

from optduel.components.prepare.sources.digits import Digits
from optduel.components.prepare.sources.folder import Folder, StoredFolder
from optduel.components.prepare.sources.source import Source
from optduel.components.prepare.sources.tfds import Tfds

__all__ = ["Digits", "Folder", "Source", "StoredFolder", "Tfds"]

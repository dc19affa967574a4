"""Puts downloads that the user already has where TensorFlow Datasets looks for its own: no network is needed.

A finished download of TensorFlow Datasets 4.9 is `<downloads>/<builder>/<name>` with a description
`<name>.INFO` beside it. The name is made of the URL and of the checksum that the builder registered; what is
found under it is taken for that download without computing its checksum, so that a re-encoded archive is
accepted.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from optduel.components.core.errors import DataError
from optduel.components.prepare.sources.archive_scan import scan_archive
from optduel.components.storage.local import as_storage_error
from optduel.components.storage.location import local_path


class Archive:
    """One downloaded file, or a folder of them, matched to a builder's URLs by file name.

    Args:
        path: what the user gave.
        builder_class: whose downloads it stands for; one that wants files fetched by hand gets all of them.

    Raises:
        DataError: there is no such file, or none that the builder asks for.
        StorageError: a file cannot be read.
    """

    def __init__(self, path: str, builder_class: Any) -> None:
        place = local_path(path).absolute()
        where = f"data.source.archive = {path}"
        if not place.exists():
            raise DataError(f"{where}: no such file or folder")
        self._builder_name: str = builder_class.name
        self._url_infos = builder_class.url_infos or {}
        try:
            files = (
                [place] if place.is_file() else [file for file in sorted(place.iterdir()) if file.is_file()]
            )
            self._by_url = {
                url: file for url in self._url_infos for file in files if file.name in _names(url)
            }
            self._by_hand = files if builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS is not None else []
            self._files = sorted({*self._by_url.values(), *self._by_hand})
            self.sha256 = _sha256(self._files)
        except OSError as error:
            raise as_storage_error(error, place) from error
        if not self._files:
            wanted = ", ".join(sorted({_names(url)[0] for url in self._url_infos})) or "no file at all"
            raise DataError(f"{where}: holds {_listing(files)}, but {self._builder_name} asks for {wanted}")

    @property
    def description(self) -> str:
        """The files in one line."""
        return f"{', '.join(file.name for file in self._files)} (SHA-256 {self.sha256[:12]})"

    def place(self, downloads: Path) -> None:
        """Scans the files and links them into the folder of downloads.

        Raises:
            DataError: an archive that must not be unpacked.
            OSError: the folder cannot be written.
        """
        from tensorflow_datasets.core.download import resource

        for file in self._files:
            scan_archive(file)
        for url, file in self._by_url.items():
            info = self._url_infos[url]
            link = download_path(downloads, self._builder_name, url, info)
            _link(link, file)
            resource.write_info_file(
                url=url, path=link, dataset_name=self._builder_name, original_fname=file.name, url_info=info
            )
        for file in self._by_hand:
            _link(downloads / "manual" / file.name, file)


def download_path(downloads: Path, builder_name: str, url: str, url_info: Any) -> Path:
    """Where TensorFlow Datasets keeps a download; `url_info` is what the builder registered for the URL."""
    from tensorflow_datasets.core.download import resource

    return downloads / builder_name / str(resource.get_dl_fname(url, url_info.checksum))


def _names(url: str) -> tuple[str, ...]:
    """The file names under which a browser or a command would have saved a URL."""
    name = PurePosixPath(urlsplit(url).path).name
    return name, unquote(name)


def _listing(files: list[Path]) -> str:
    shown = ", ".join(file.name for file in files[:10])
    return f"{shown}, ..." if len(files) > 10 else shown or "no files"


def _sha256(files: list[Path]) -> str:
    """SHA-256 of one file, or over the names and SHA-256 of several."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    listing = "".join(f"{digest} {path.name}\n" for digest, path in zip(digests, files, strict=True))
    return hashlib.sha256(listing.encode()).hexdigest()


def _link(link: Path, file: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    os.symlink(file, link)

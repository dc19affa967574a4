"""Looks through an archive before anything else may open it: no path that climbs out, no bomb."""

import bz2
import gzip
import hashlib
import itertools
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import unquote, urlsplit

from optduel.components.core import DataError
from optduel.components.storage import as_storage_error, kind_of, local_path

MEMBER_LIMIT = 20_000_000
"""Members of an archive; the largest public image data sets have 14 million images."""

UNPACKED_BYTES_LIMIT = 2**41
"""Two tebibytes; ImageNet-21k unpacks to 1.3."""

NAME_LIMIT = 4096
"""Characters of a member's name; no file system takes longer paths, and each folder in one is looked at."""

LINK_LIMIT = 1_000_000
"""Links of an archive; all are remembered, to tell what lies below one."""

RATIO_LIMIT = 50
"""Unpacked to packed size. Photographs stay near 1, raw digits reach 6, text 10, a bomb of zeros 1000."""

RATIO_FREE_BYTES = 64 * 2**20
"""Unpacked bytes that are allowed whatever the ratio."""

_HEADER_BYTES = 512
_HEADER_BYTES_LIMIT = 2**20
_LINK_BYTES_LIMIT = 4096
_BLOCK_BYTES = 2**20

# What the readers raise on damaged archives, found by feeding them 20,000.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
    ValueError,
    struct.error,
)

COMPRESSIONS = ((b"\x1f\x8b", gzip.GzipFile), (b"BZh", bz2.BZ2File), (b"\xfd7zXZ\x00", lzma.LZMAFile))
"""How a compressed file begins, and what reads it."""

_TAR_SUFFIXES = (".tar", ".tgz", ".tbz", ".tbz2", ".tb2", ".txz")


def scan_archive(path: Path) -> None:
    """Reads through a tar or zip archive, or a single compressed file, without unpacking it to disk.

    Other files pass: they have no members.

    Raises:
        DataError: it is damaged, or names a member that must not be unpacked.
    """
    limits = _Limits(path)
    try:
        with path.open("rb") as file:
            start = file.read(6)
        is_zip_only = start.startswith(b"PK\x03\x04")
        # Readers of zip archives look at the end, and leave alone what stands before: so does this one.
        if is_zip_only or zipfile.is_zipfile(path):
            _scan_zip(path, limits)
        if not is_zip_only:
            reader = next((reader for magic, reader in COMPRESSIONS if start.startswith(magic)), None)
            with reader(path) if reader else path.open("rb") as content:
                _scan_stream(path, cast(IO[bytes], content), limits, is_compressed=reader is not None)
    except _DAMAGE as error:
        raise DataError(f"{path}: is damaged or cut off ({error}); fetch it again") from error


class _Limits:
    """Checks the members of one archive in turn, each before its content is unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed_bytes = path.stat().st_size
        self._members = 0
        self._unpacked_bytes = 0
        self._links: set[PurePosixPath] = set()

    def add(self, member: str, size: int) -> None:
        """Refuses the member that takes the archive past a limit."""
        self._members += 1
        self._unpacked_bytes += _HEADER_BYTES + size
        if self._members > MEMBER_LIMIT:
            raise self.refusal(member, f"takes it past {MEMBER_LIMIT:,} members, the limit")
        if self._unpacked_bytes > UNPACKED_BYTES_LIMIT:
            raise self.refusal(member, f"takes it past {UNPACKED_BYTES_LIMIT:,} unpacked bytes, the limit")
        if self._unpacked_bytes > max(RATIO_FREE_BYTES, RATIO_LIMIT * self._packed_bytes):
            sizes = f"{self._unpacked_bytes:,} unpacked bytes from {self._packed_bytes:,}"
            raise self.refusal(member, f"takes it to {sizes}, more than {RATIO_LIMIT} times as many")

    def check_place(self, member: str, link_target: PurePosixPath | None) -> None:
        """Refuses a member that lies, or a link that leads, outside the folder that is unpacked into."""
        if len(member) > NAME_LIMIT:
            raise self.refusal(f"{member[:40]}...", f"has a name of {len(member):,} characters")
        place = PurePosixPath(member)
        if place.is_absolute() or ".." in place.parts:
            raise self.refusal(member, "leads out of the archive")
        if self._links and not self._links.isdisjoint(place.parents):
            raise self.refusal(member, "lies below a link")
        if link_target is not None:
            self._links.add(place)
            if len(self._links) > LINK_LIMIT:
                raise self.refusal(member, f"takes it past {LINK_LIMIT:,} links, the limit")
            if _climbs_out(link_target):
                raise self.refusal(member, f"is a link that leads out of the archive: {str(link_target)!r}")

    def refusal(self, member: str, reason: str) -> DataError:
        """What to raise for a member that must not be unpacked."""
        return DataError(f"{self._path}: member {member!r} {reason}; do not use this file")


def _climbs_out(path: PurePosixPath) -> bool:
    depths = itertools.accumulate(-1 if part == ".." else 1 for part in path.parts)
    return path.is_absolute() or any(depth < 0 for depth in depths)


class _HeaderReader:
    """What tarfile reads, which is headers only: one that claims gigabytes must not get them in memory."""

    def __init__(self, content: IO[bytes], path: Path) -> None:
        self._content = content
        self._path = path

    def read(self, size: int) -> bytes:
        if size > _HEADER_BYTES_LIMIT:
            raise DataError(f"{self._path}: has a header of {size:,} bytes; do not use this file")
        return self._content.read(size)

    def seek(self, offset: int) -> int:
        return self._content.seek(offset)

    def tell(self) -> int:
        return self._content.tell()


def _scan_stream(path: Path, content: IO[bytes], limits: _Limits, is_compressed: bool) -> None:
    archive = _open_tar(path, content)
    # A file of zeros looks like a tar archive without members.
    has_members = archive is not None and _scan_tar(archive, content, limits) > 0
    if is_compressed and not has_members:
        _scan_compressed_file(path, content, limits)


def _open_tar(path: Path, content: IO[bytes]) -> tarfile.TarFile | None:
    try:
        return tarfile.TarFile(fileobj=cast(IO[bytes], _HeaderReader(content, path)))
    except tarfile.ReadError:
        if any(suffix in _TAR_SUFFIXES for suffix in path.suffixes):
            raise
        return None


def _scan_tar(archive: tarfile.TarFile, content: IO[bytes], limits: _Limits) -> int:
    """Checks every member and returns how many there are."""
    members = 0
    while (member := archive.next()) is not None:
        members += 1
        limits.add(member.name, member.size)
        link_target = None
        if member.issym():
            link_target = PurePosixPath(member.name).parent / member.linkname
        elif member.islnk():
            link_target = PurePosixPath(member.linkname)
        elif not (member.isfile() or member.isdir()):
            raise limits.refusal(member.name, "is a device or another special file")
        limits.check_place(member.name, link_target)
        archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
    # tarfile takes a damaged header for the end.
    content.seek(archive.offset)
    end = content.read(_HEADER_BYTES)
    if not end or end.strip(b"\0"):
        raise tarfile.ReadError("no end marker")
    return members


def _scan_zip(path: Path, limits: _Limits) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            limits.add(member.filename, member.file_size)
            kind = stat.S_IFMT(member.external_attr >> 16)
            link_target = None
            if kind == stat.S_IFLNK:
                if member.file_size > _LINK_BYTES_LIMIT:
                    raise limits.refusal(member.filename, f"is a link of {member.file_size:,} bytes")
                target = archive.read(member).decode(errors="surrogateescape")
                link_target = PurePosixPath(member.filename).parent / target
            elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise limits.refusal(member.filename, "is a device or another special file")
            limits.check_place(member.filename, link_target)


def _scan_compressed_file(path: Path, content: IO[bytes], limits: _Limits) -> None:
    content.seek(0)
    while block := content.read(_BLOCK_BYTES):
        limits.add(path.name, len(block))


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
        kind = kind_of(place)
        if kind not in ("file", "folder"):
            raise DataError(f"{where}: no such file or folder")
        self._builder_name: str = builder_class.name
        self._url_infos = builder_class.url_infos or {}
        try:
            files = (
                [place]
                if kind == "file"
                else [file for file in sorted(place.iterdir()) if kind_of(file) == "file"]
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

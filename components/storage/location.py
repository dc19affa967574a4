"""Names places: paths and URIs."""

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from optduel.components.core import StorageError
from optduel.components.storage.redaction import redacted

Location: TypeAlias = str | Path
"""A path, or a URI; a string without a scheme is a path."""

AnyLocation = TypeVar("AnyLocation", str, Path)

REMOTE_SCHEMES = ("gs", "s3", "minio")

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Name the server for `s3://` and `minio://`, as AWS's own tools read them."""

LONGEST_KEY = 1024
"""Bytes of an object's name in UTF-8, the limit of Cloud Storage and of S3."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Address:
    """A place in an object store.

    Attributes:
        scheme: "gs", "s3" or "minio".
        key: the object's name in its bucket; empty for the bucket itself.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The place as a URI."""
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"


def is_remote(location: Location) -> bool:
    """Whether a place lies in an object store."""
    return isinstance(location, str) and location.partition("://")[0] in REMOTE_SCHEMES and "://" in location


def local_path(location: Location) -> Path:
    """The path of a local place; `~` is the user's home, which shells leave alone in `--root=~/runs`.

    Raises:
        StorageError: the place is remote, its scheme is not known, or it is on another host.
    """
    if isinstance(location, Path):
        return location
    scheme, separator, _ = location.partition("://")
    if not separator:
        # Unlike Path's own, this leaves the name of an unknown user alone.
        return Path(os.path.expanduser(location))
    if scheme != "file":
        known = "names no local place" if scheme in REMOTE_SCHEMES else "has a scheme that is not supported"
        raise StorageError(f"{redacted(location)}: {known}; give a directory")
    parts = urllib.parse.urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise StorageError(
            f"{redacted(location)}: names the host {parts.hostname}; an absolute path starts with file:///"
        )
    return Path(urllib.parse.unquote(parts.path))


def parse_address(location: str, *, folder: bool = False) -> Address:
    """The parts of a remote place. Object names are taken literally: nothing is percent-decoded.

    Args:
        folder: the place holds objects and is none itself, so it may be a whole bucket or end with a slash.

    Raises:
        StorageError: the URI names no object (or folder), or a name that a store refuses.
    """
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    if folder:
        key = key.rstrip("/")
    where = redacted(location)
    if "@" in bucket:
        raise StorageError(f"{where}: holds credentials; they come from the platform, never from a URI")
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"{where}: {bucket!r} is no bucket's name; write {scheme}://BUCKET/NAME")
    if len(key.encode()) > LONGEST_KEY:
        raise StorageError(f"{where}: the name is longer than {LONGEST_KEY} bytes; shorten it")
    if not key and folder:
        return Address(scheme, bucket, key)
    _check_segments(key, where)
    return Address(scheme, bucket, key)


def join(location: AnyLocation, *parts: str) -> AnyLocation:
    """A place within a place: `join("gs://bucket/runs", "a/b.json")`.

    Args:
        parts: relative names, whose slashes separate folders.

    Raises:
        StorageError: a part is absolute, is empty, or leaves the place by "..".
    """
    for part in parts:
        _check_segments(part, redacted(str(location)))
    if isinstance(location, Path):
        return location.joinpath(*parts)
    if "://" not in location:
        return str(Path(location, *parts))
    if is_remote(location):
        return "/".join([parse_address(location, folder=True).uri, *parts])
    parts = tuple(urllib.parse.quote(part) for part in parts)
    return "/".join([location.rstrip("/"), *parts])


def _check_segments(name: str, where: str) -> None:
    if _CONTROL.search(name) or any(segment in ("", ".", "..") for segment in name.split("/")):
        rule = "names of objects are relative, without empty parts, '.', '..' and control characters"
        raise StorageError(f"{where}: {name!r} names no object; {rule}")

"""What a store knows about one object."""

from dataclasses import dataclass

ABSENT = "0"
"""The version of an object that does not exist, as Cloud Storage numbers generations."""


def size_and_checksum(size: int | None, crc32c: str | None) -> str:
    """What is known of an object's content, in words: "6 bytes", "CRC-32C 1a2b3c4d", or both."""
    known = [f"{size} bytes"] if size is not None else []
    return " with ".join([*known, f"CRC-32C {crc32c}"] if crc32c is not None else known)


@dataclass(frozen=True)
class Entry:
    """One stored object.

    Attributes:
        uri: where it lies; a path for a local file.
        bytes: its size.
        crc32c: CRC-32C of the whole content as eight hexadecimal digits, or None where the store does not
            tell: for local files, in listings of S3, and for S3 objects that others wrote.
        version: changes with every write; for `publish(..., if_version=...)`. A generation (Cloud Storage),
            an ETag (S3), or the identity and time of a local file.
        writer: names the one write that made the object, for those written by this package.
    """

    uri: str
    bytes: int
    crc32c: str | None
    version: str
    writer: str | None = None

"""Gives every object store the same promises: retries, checksums, writes that a lost answer cannot break."""

import contextlib
import io
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from optduel.components.core import ConflictError, DamagedError, StorageError
from optduel.components.storage.content import Content, Sink
from optduel.components.storage.entry import Entry, size_and_checksum
from optduel.components.storage.failures import (
    AbsentFailure,
    ConditionFailure,
    DamagedFailure,
    PermanentFailure,
    TransientFailure,
)
from optduel.components.storage.local import unfinished
from optduel.components.storage.location import Address, parse_address
from optduel.components.storage.retries import Attempt, persist


class Store(Protocol):
    """One bucket. Every method makes one attempt and raises Failure where it fails."""

    def stat(self, key: str) -> Entry:
        """What is known about an object; raises AbsentFailure where there is none."""

    def fetch(self, key: str, sink: Sink) -> Entry:
        """Sends an object's content to `sink`."""

    def fetch_part(self, key: str, start: int, size: int, sink: Sink) -> None:
        """Sends `size` bytes from `start` on to `sink`."""

    def write(self, key: str, content: Content, writer: str, expected: str | None, attempt: Attempt) -> Entry:
        """Writes an object; raises ConditionFailure where its version is not what is expected."""

    def entries(self, prefix: str, attempt: Attempt) -> list[Entry]:
        """The objects whose names start with `prefix`."""

    def delete(self, key: str) -> None:
        """Removes an object; raises AbsentFailure where there is none, if the store tells."""


def _open_store(address: Address) -> Store:
    # Each client takes half a second to import, and most processes need one of them or none.
    if address.scheme == "gs":
        from optduel.components.storage.gcs import GcsStore

        return GcsStore(address.bucket)
    from optduel.components.storage.s3 import S3Store

    return S3Store(address.scheme, address.bucket)


def read(uri: str) -> bytes:
    """The content of an object, checked."""
    address = parse_address(uri)

    def attempt_read(attempt: Attempt) -> bytes:
        buffer = io.BytesIO()
        _fetch(address, Sink(buffer, attempt))
        return buffer.getvalue()

    return persist(address.uri, attempt_read)


def read_part(uri: str, start: int, size: int) -> bytes:
    """Bytes of an object, which no checksum of the store's covers."""
    address = parse_address(uri)

    def attempt_read(attempt: Attempt) -> bytes:
        buffer = io.BytesIO()
        _open_store(address).fetch_part(address.key, start, size, Sink(buffer, attempt))
        if len(buffer.getvalue()) != size:
            raise DamagedFailure(f"{len(buffer.getvalue())} bytes arrived of {size}")
        return buffer.getvalue()

    return persist(address.uri, attempt_read)


def fetch(
    uri: str,
    target: Path,
    size: int | None,
    crc32c: str | None,
    stopped: threading.Event,
    received: Callable[[int], None] | None = None,
) -> Entry:
    """Writes an object's content to a local file, which appears whole and checked.

    Where size and checksum are known, a transfer that breaks off goes on where it broke off.

    Args:
        size: bytes that the object must have; None where only the store's own word is there to check against.
        crc32c: that the object must have; None likewise.
        received: is told of bytes as they arrive, those of attempts that fail included.
    """
    address = parse_address(uri)
    with unfinished(target) as (_, kept):

        def attempt_fetch(attempt: Attempt) -> Entry:
            # An attempt that was left behind may still be writing, so each has a file of its own.
            with unfinished(target) as (file, temporary):
                sink = Sink(file, attempt, received)
                try:
                    entry = _fetch(address, sink, size, crc32c, Path(kept))
                except DamagedFailure:
                    os.truncate(kept, 0)
                    raise
                except TransientFailure:
                    attempt.check()
                    if size and crc32c and sink.bytes > os.path.getsize(kept):
                        file.flush()
                        shutil.copyfile(temporary, kept)
                    raise
                file.flush()
                attempt.check()
                os.chmod(temporary, 0o644)
                os.replace(temporary, target)
            return entry

        return persist(address.uri, attempt_fetch, stopped=stopped)


def _fetch(
    address: Address,
    sink: Sink,
    size: int | None = None,
    crc32c: str | None = None,
    kept: Path | None = None,
) -> Entry:
    """Sends an object's content to `sink`, and checks it.

    Args:
        size: as `fetch` takes it.
        crc32c: likewise.
        kept: what has arrived of it before a transfer broke off; the rest is asked for where there is any.
    """
    store = _open_store(address)
    if kept and size and crc32c and 0 < kept.stat().st_size < size:
        entry = store.stat(address.key)
        sink.resume(kept)
        store.fetch_part(address.key, sink.bytes, size - sink.bytes, sink)
    else:
        entry = store.fetch(address.key, sink)
    arrived = f"{size_and_checksum(sink.bytes, sink.crc32c)} arrived"
    if sink.bytes != entry.bytes or entry.crc32c not in (None, sink.crc32c):
        raise DamagedFailure(f"{arrived}, but the store has {size_and_checksum(entry.bytes, entry.crc32c)}")
    if size not in (None, sink.bytes) or crc32c not in (None, sink.crc32c):
        cause = f"{arrived}, not the expected {size_and_checksum(size, crc32c)}"
        if entry.crc32c is None:
            raise DamagedFailure(cause)
        raise PermanentFailure(cause, "another object lies in its place: write the right one again")
    return replace(entry, crc32c=sink.crc32c)


def write(uri: str, content: Content, expected: str | None, stopped: threading.Event | None = None) -> Entry:
    """Writes a whole object, if its version is what is expected.

    An answer may be lost after the store has applied the write; the next attempt then meets our own object. A
    writer's name in the object's metadata tells that from a lost race. (Cloud Storage names the rule under
    "Retry strategy: conditionally idempotent operations".)

    Args:
        expected: a version, ABSENT for no object, None for any.
    """
    address = parse_address(uri)
    writer = uuid.uuid4().hex
    damaged: list[str] = []

    def attempt_write(attempt: Attempt) -> Entry:
        store = _open_store(address)
        # What a damaged attempt of our own left is ours to replace.
        condition = damaged[-1] if damaged and expected is not None else expected
        try:
            entry = store.write(address.key, content, writer, condition, attempt)
        except ConditionFailure:
            entry = _own(store, address, writer)
        if entry.bytes != content.size or entry.crc32c not in (None, content.crc32c):
            damaged.append(entry.version)
            sent = f"{size_and_checksum(content.size, content.crc32c)} were sent"
            raise DamagedFailure(f"{sent}, but the store has {size_and_checksum(entry.bytes, entry.crc32c)}")
        return replace(entry, crc32c=content.crc32c)

    try:
        return persist(address.uri, attempt_write, size=content.size, stopped=stopped)
    except DamagedError:
        _withdraw(address, writer)
        raise


def _withdraw(address: Address, writer: str) -> None:
    """Removes what a writer has left damaged in a store that compares no checksums itself, if it can be."""

    def attempt_withdraw(_: Attempt) -> None:
        store = _open_store(address)
        if store.stat(address.key).writer == writer:
            store.delete(address.key)

    with contextlib.suppress(StorageError):  # what is told is the damage
        persist(address.uri, attempt_withdraw)


def _own(store: Store, address: Address, writer: str) -> Entry:
    try:
        found = store.stat(address.key)
    except AbsentFailure:
        raise ConflictError(f"{address.uri}: was deleted by another writer; decide again") from None
    if found.writer != writer:
        raise ConflictError(f"{address.uri}: was written by another writer first; read it and decide again")
    return found


def stat(uri: str) -> Entry | None:
    """What the store knows about an object, or None where there is none."""
    address = parse_address(uri)

    def attempt_stat(_: Attempt) -> Entry | None:
        try:
            return _open_store(address).stat(address.key)
        except AbsentFailure:
            return None

    return persist(address.uri, attempt_stat)


def list_entries(uri: str) -> list[Entry]:
    """The objects below a folder, sorted by URI."""
    address = parse_address(uri, folder=True)
    prefix = f"{address.key}/" if address.key else ""

    def attempt_list(attempt: Attempt) -> list[Entry]:
        return _open_store(address).entries(prefix, attempt)

    found = persist(address.uri, attempt_list)
    # Some tools mark folders by empty objects whose names end with a slash.
    return sorted((entry for entry in found if not entry.uri.endswith("/")), key=lambda entry: entry.uri)


def delete(uri: str) -> None:
    """Removes an object; one that is absent was removed by an attempt whose answer was lost, or by others."""
    address = parse_address(uri)

    def attempt_delete(_: Attempt) -> None:
        try:
            _open_store(address).delete(address.key)
        except AbsentFailure:
            return

    persist(address.uri, attempt_delete)

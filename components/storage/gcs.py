"""Cloud Storage, through google-cloud-storage."""

import base64
import contextlib
import http.client
import mimetypes
import os
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import google.api_core.exceptions
import google.auth.exceptions
import requests
import requests.adapters
import urllib3
from google.cloud import storage

from optduel.components.decoding import parse_object
from optduel.components.storage.clients import client_of
from optduel.components.storage.content import BLOCK_BYTES, Content, Sink
from optduel.components.storage.entry import Entry
from optduel.components.storage.failures import (
    DamagedFailure,
    Failure,
    PermanentFailure,
    TransientFailure,
    failure_of_connection,
    failure_of_status,
)
from optduel.components.storage.retries import Attempt, timeouts

LARGEST_BYTES_AT_ONCE = 2 << 20
"""The client holds such an object in memory, twice, with its metadata; a larger one is streamed."""

MOST_CONNECTIONS = 32

LISTING_BYTES = 1 << 20
"""About what one page of a listing holds."""

# For traces that nobody asked for, the client requests each bucket's metadata in a thread without our limits.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

_WRITER = "optduel-writer"

_RENEW = (
    "the credentials are missing, invalid or expired: renew them with"
    " `gcloud auth application-default login`, or check the Workload Identity of the pod's service account"
)
_REMEDIES = {
    401: _RENEW,
    403: "grant the identity in use the role Storage Object User (roles/storage.objectUser) on the bucket",
    404: "check the spelling, or create the bucket with `gcloud storage buckets create`",
}

_FORGOTTEN = frozenset({308, 404, 410})
"""Answers to the content of a resumable upload after which it has to begin anew."""


class GcsStore:
    """One bucket of Cloud Storage, or of the emulator that STORAGE_EMULATOR_HOST names."""

    def __init__(self, bucket: str) -> None:
        self._name = bucket

    def stat(self, key: str) -> Entry:
        """What is known about an object."""
        with _translated():
            blob = self._bucket().blob(key)
            blob.reload(timeout=timeouts(), retry=None)
            return self._entry(blob)

    def fetch(self, key: str, sink: Sink) -> Entry:
        """Sends an object's content, as it is stored, to `sink`."""
        with _translated():
            blob = self._bucket().blob(key)
            blob.download_to_file(sink, raw_download=True, checksum=None, timeout=timeouts(), retry=None)
            return Entry(self._uri(key), sink.bytes, _hexadecimal(blob.crc32c), str(blob.generation))

    def fetch_part(self, key: str, start: int, size: int, sink: Sink) -> None:
        """Sends `size` bytes from `start` on to `sink`."""
        options: dict[str, Any] = {
            "raw_download": True,
            "checksum": None,
            "timeout": timeouts(),
            "retry": None,
        }
        with _translated():
            blob = self._bucket().blob(key)
            blob.download_to_file(sink, start=start, end=start + size - 1, **options)

    def write(self, key: str, content: Content, writer: str, expected: str | None, attempt: Attempt) -> Entry:
        """Writes an object in one request, or as one resumable upload; it appears when all of it is there."""
        blob = self._bucket().blob(key)
        blob.crc32c = base64.b64encode(bytes.fromhex(content.crc32c)).decode()
        blob.metadata = {_WRITER: writer}
        options: dict[str, Any] = {
            "content_type": mimetypes.guess_type(key)[0] or "application/octet-stream",
            "size": content.size,
            "if_generation_match": None if expected is None else int(expected),
            "checksum": None,  # the store compares with the checksum in the metadata
            "timeout": timeouts(),
            "retry": None,
        }
        with _translated(), content.open(attempt) as source:
            if content.size <= LARGEST_BYTES_AT_ONCE:
                blob.upload_from_file(source, **options)
                return self._entry(blob)
            session = blob.create_resumable_upload_session(**options)
            answer = _streams().put(session, data=source, timeout=timeouts(), allow_redirects=False)
            if answer.status_code in _FORGOTTEN:
                raise TransientFailure(f"HTTP {answer.status_code}: the store has lost the upload")
            if answer.status_code != 200:
                raise google.api_core.exceptions.from_http_response(answer)  # type: ignore[no-untyped-call]
            return self._stored(key, answer.json())

    def entries(self, prefix: str, attempt: Attempt) -> list[Entry]:
        """The objects whose names start with `prefix`."""
        with _translated():
            found = []
            listing = self._client().list_blobs(self._name, prefix=prefix, timeout=timeouts(), retry=None)
            for page in listing.pages:
                attempt.allow(LISTING_BYTES)
                found += [self._entry(blob) for blob in page]
            return found

    def delete(self, key: str) -> None:
        """Removes an object."""
        with _translated():
            self._bucket().blob(key).delete(timeout=timeouts(), retry=None)

    def _bucket(self) -> storage.Bucket:
        return self._client().bucket(self._name)

    def _client(self) -> storage.Client:
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")  # the client finds it by itself
        client: storage.Client = client_of(("gs", emulator), storage.Client)
        return client

    def _uri(self, key: str) -> str:
        return f"gs://{self._name}/{key}"

    def _entry(self, blob: storage.Blob) -> Entry:
        return Entry(
            uri=self._uri(blob.name),
            bytes=blob.size,
            crc32c=_hexadecimal(blob.crc32c),
            version=str(blob.generation),
            writer=(blob.metadata or {}).get(_WRITER),
        )

    def _stored(self, key: str, told: Mapping[str, Any]) -> Entry:
        """The object that a finished upload's answer tells of."""
        return Entry(
            uri=self._uri(key),
            bytes=int(told.get("size", 0)),
            crc32c=_hexadecimal(told.get("crc32c")),
            version=str(told.get("generation")),
            writer=told.get("metadata", {}).get(_WRITER),
        )


class _InBlocks(requests.adapters.HTTPAdapter):
    """Sends bodies in larger blocks than 16 KiB."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """The pool of connections, and the size of what goes through them at a time."""
        super().init_poolmanager(*arguments, **options, blocksize=BLOCK_BYTES)


def _create_streams() -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _InBlocks(pool_maxsize=MOST_CONNECTIONS))
    return session


def _streams() -> requests.Session:
    """Connections for resumable uploads, whose addresses by themselves give the right to write there."""
    streams: requests.Session = client_of("streams to gs", _create_streams)
    return streams


def _hexadecimal(crc32c: str | None) -> str | None:
    return base64.b64decode(crc32c).hex() if crc32c else None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns the client's errors into failures."""
    try:
        yield
    except google.api_core.exceptions.GoogleAPICallError as error:
        raise _failure_of_answer(error) from None
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise PermanentFailure(str(error), _RENEW) from None
    except google.auth.exceptions.RefreshError as error:
        failure = TransientFailure(str(error)) if error.retryable else PermanentFailure(str(error), _RENEW)
        raise failure from None
    except (
        google.auth.exceptions.TransportError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        ssl.SSLError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise failure_of_connection(error) from None


def _failure_of_answer(error: google.api_core.exceptions.GoogleAPICallError) -> Failure:
    status = int(error.code or 0)
    message = _words(error)
    if status == 400 and any(word in message.lower() for word in ("crc32c", "md5", "checksum")):
        return DamagedFailure(f"the store refused what arrived: {message}")
    return failure_of_status(status, message, _REMEDIES)


def _words(error: google.api_core.exceptions.GoogleAPICallError) -> str:
    """The server's own words, out of an error that repeats request and response around them."""
    text = error.response.text if isinstance(error.response, requests.Response) else ""
    try:
        message = parse_object(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = text
    return " ".join(str(message).split())[:300]

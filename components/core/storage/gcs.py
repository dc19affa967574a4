"""Cloud Storage, through google-cloud-storage."""

import base64
import contextlib
import http.client
import json
import mimetypes
import os
import ssl
from collections.abc import Iterator

import google.api_core.exceptions
import google.auth.exceptions
import requests
import urllib3
from google.cloud import storage

from components.core.storage.clients import client_of
from components.core.storage.content import Content, Sink
from components.core.storage.entry import Entry
from components.core.storage.failures import (
    DamagedFailure,
    Failure,
    PermanentFailure,
    TransientFailure,
    failure_of_connection,
    failure_of_status,
)
from components.core.storage.retries import Attempt, timeouts

UPLOAD_CHUNK_BYTES = 32 << 20
"""The client holds a chunk in memory, twice. An object above 8 MiB goes in chunks, a smaller one at once."""

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

    def write(self, key: str, content: Content, writer: str, expected: str | None, attempt: Attempt) -> Entry:
        """Writes an object in one request, or as one resumable upload; it appears when all of it is there."""
        with _translated(), content.open(attempt) as source:
            blob = self._bucket().blob(key, chunk_size=UPLOAD_CHUNK_BYTES)
            blob.crc32c = base64.b64encode(bytes.fromhex(content.crc32c)).decode()
            blob.metadata = {_WRITER: writer}
            blob.upload_from_file(
                source,
                size=content.size,
                content_type=mimetypes.guess_type(key)[0] or "application/octet-stream",
                if_generation_match=None if expected is None else int(expected),
                checksum=None,  # the store compares with the checksum in the metadata
                timeout=timeouts(),
                retry=None,
            )
            return self._entry(blob)

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
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = text
    return " ".join(str(message).split())[:300]

"""Stores that speak S3, through botocore: Amazon S3, and the store of Kubeflow Pipelines under `minio://`."""

import base64
import contextlib
import functools
import hashlib
import mimetypes
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session
import urllib3

from optduel.components.storage.clients import client_of
from optduel.components.storage.content import BLOCK_BYTES, Content, Sink, crc32c_of, md5_of
from optduel.components.storage.entry import ABSENT, Entry
from optduel.components.storage.failures import (
    AbsentFailure,
    ConditionFailure,
    DamagedFailure,
    Failure,
    PermanentFailure,
    TransientFailure,
    failure_of_connection,
    failure_of_status,
)
from optduel.components.storage.location import ENDPOINT_VARIABLES
from optduel.components.storage.retries import Attempt, timeouts

KUBEFLOW_ENDPOINT = "http://seaweedfs.kubeflow:9000"
"""Where Kubeflow Pipelines 2.17 keeps its artifacts unless it is configured otherwise."""

MOST_CONNECTIONS = 32

LARGEST_BYTES = 5 << 30
"""S3 takes no more in one request, and what takes one request needs no clearing up after a failure."""

PART_BYTES = 512 << 20
"""Of a larger object's parts, of which there may be 10,000."""

LISTING_BYTES = 1 << 20
"""About what one page of a listing holds."""

_WRITER = "optduel-writer"
_CRC32C = "optduel-crc32c"

_RENEW = (
    "the credentials are missing, invalid or expired: renew the session (for example with `aws sso login`),"
    " or check the service account's role or the secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_REMEDIES = {
    401: _RENEW,
    403: ("grant the identity in use s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"),
    404: "check the spelling, or create the bucket",
}
_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_TRANSIENT_CODES = frozenset({"ConditionalRequestConflict", "IncompleteBody", "RequestTimeout"})
_DAMAGE_CODES = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
)

_MD5 = re.compile(r'"([0-9a-f]{32})"')


class S3Store:
    """One bucket.

    Args:
        scheme: "s3", or "minio" where Kubeflow's own store is the default server.
    """

    def __init__(self, scheme: str, bucket: str) -> None:
        self._scheme = scheme
        self._bucket = bucket

    def stat(self, key: str) -> Entry:
        """What is known about an object."""
        with _translated():
            answer = self._client().head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            return self._entry(key, answer)

    def fetch(self, key: str, sink: Sink) -> Entry:
        """Sends an object's content to `sink`."""
        with _translated():
            answer = self._client().get_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            entry = self._entry(key, answer)
            expected = _md5(answer) if entry.crc32c is None else None
            digest = hashlib.md5(usedforsecurity=False)
            body = answer["Body"]
            with contextlib.closing(body):
                while block := body.read(BLOCK_BYTES):
                    sink.write(block)
                    if expected:
                        digest.update(block)
        if expected not in (None, digest.hexdigest()):
            raise DamagedFailure(f"{sink.bytes} bytes with MD5 {digest.hexdigest()} arrived, not {expected}")
        return entry

    def fetch_part(self, key: str, start: int, size: int, sink: Sink) -> None:
        """Sends `size` bytes from `start` on to `sink`."""
        with _translated():
            wanted = f"bytes={start}-{start + size - 1}"
            answer = self._client().get_object(Bucket=self._bucket, Key=key, Range=wanted)
            with contextlib.closing(answer["Body"]) as body:
                while block := body.read(BLOCK_BYTES):
                    sink.write(block)

    def write(self, key: str, content: Content, writer: str, expected: str | None, attempt: Attempt) -> Entry:
        """Writes an object in one request, or a huge one in parts; it appears when all of it is there."""
        conditions = {} if expected is None else {"IfMatch": expected}
        if expected == ABSENT:
            conditions = {"IfNoneMatch": "*"}
        described = {
            "ContentType": mimetypes.guess_type(key)[0] or "application/octet-stream",
            "Metadata": {_WRITER: writer, _CRC32C: content.crc32c},
        }
        if content.size > LARGEST_BYTES:
            with _translated(expected):
                answer = self._write_parts(key, content, described, conditions, attempt)
            return Entry(self._uri(key), content.size, _crc32c(answer), answer["ETag"], writer)
        with _translated(expected), content.open(attempt) as source:
            answer = self._client().put_object(
                Bucket=self._bucket,
                Key=key,
                Body=source,
                ContentLength=content.size,
                ChecksumCRC32C=_base64(content.crc32c),
                **described,
                **conditions,
            )
        stored = _crc32c(answer)
        named = _md5(answer)
        if stored is None and named is not None:
            with content.open(attempt) as source:
                if md5_of(source) != named:
                    raise DamagedFailure(f"the store tells of an object with MD5 {named}, not what was sent")
        return Entry(self._uri(key), content.size, stored, answer["ETag"], writer)

    def _write_parts(
        self,
        key: str,
        content: Content,
        described: Mapping[str, Any],
        conditions: Mapping[str, str],
        attempt: Attempt,
    ) -> Mapping[str, Any]:
        """Sends an object in parts, and joins them where the conditions hold; returns the last answer.

        Each part is compared with its checksum. What was sent of an object that does not come about is
        withdrawn, but for that of a killed process, which a rule of the bucket's has to clear up.
        """
        client, place = self._client(), {"Bucket": self._bucket, "Key": key}
        upload = client.create_multipart_upload(**place, **described, ChecksumAlgorithm="CRC32C")
        place["UploadId"] = upload["UploadId"]
        parts = []
        try:
            for number, start in enumerate(range(0, content.size, PART_BYTES), start=1):
                size = min(PART_BYTES, content.size - start)
                with content.open(attempt, start, size) as source:
                    checksum = _base64(crc32c_of(source))
                    answer = client.upload_part(
                        **place,
                        PartNumber=number,
                        Body=source,
                        ContentLength=size,
                        ChecksumCRC32C=checksum,
                    )
                    named = _md5(answer)
                    if "ChecksumCRC32C" not in answer and named not in (None, md5_of(source)):
                        raise DamagedFailure(f"the store tells of a part with MD5 {named}, not what was sent")
                parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32C": checksum})
            joined: Mapping[str, Any] = client.complete_multipart_upload(
                **place, MultipartUpload={"Parts": parts}, **conditions
            )
        except BaseException:
            # What is told is what went wrong first.
            with contextlib.suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                client.abort_multipart_upload(**place)
            raise
        return joined

    def entries(self, prefix: str, attempt: Attempt) -> list[Entry]:
        """The objects whose names start with `prefix`."""
        with _translated():
            found = []
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                attempt.allow(LISTING_BYTES)
                found += [
                    Entry(self._uri(item["Key"]), item["Size"], None, item["ETag"])
                    for item in page.get("Contents", [])
                ]
            return found

    def delete(self, key: str) -> None:
        """Removes an object."""
        with _translated():
            self._client().delete_object(Bucket=self._bucket, Key=key)

    def _client(self) -> Any:
        endpoint = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
        if endpoint is None and self._scheme == "minio":
            endpoint = KUBEFLOW_ENDPOINT
        connect, read = timeouts()
        return client_of(
            ("s3", endpoint, connect, read), functools.partial(_create_client, endpoint, connect, read)
        )

    def _uri(self, key: str) -> str:
        return f"{self._scheme}://{self._bucket}/{key}"

    def _entry(self, key: str, answer: Mapping[str, Any]) -> Entry:
        metadata = answer.get("Metadata", {})
        return Entry(
            uri=self._uri(key),
            bytes=answer["ContentLength"],
            crc32c=_crc32c(answer) or metadata.get(_CRC32C),
            version=answer["ETag"],
            writer=metadata.get(_WRITER),
        )


def _create_client(endpoint: str | None, connect: float, read: float) -> Any:
    session = botocore.session.Session()
    configuration = botocore.config.Config(
        connect_timeout=connect,
        read_timeout=read,
        retries={"total_max_attempts": 1},  # one policy retries, and it is ours
        max_pool_connections=MOST_CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A server of one's own has one name; only Amazon's answers to a name for each bucket.
        s3={"addressing_style": "path"} if endpoint else None,
    )
    region = session.get_config_variable("region") or "us-east-1"
    return session.create_client("s3", region_name=region, endpoint_url=endpoint, config=configuration)


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _crc32c(answer: Mapping[str, Any]) -> str | None:
    """The store's own CRC-32C of the whole object; for one in parts it may be of the parts' checksums."""
    encoded = answer.get("ChecksumCRC32C", "")
    if not encoded or "-" in encoded or answer.get("ChecksumType") == "COMPOSITE":
        return None
    return base64.b64decode(encoded).hex()


def _md5(answer: Mapping[str, Any]) -> str | None:
    """The MD5 of an object, which its ETag is unless it came in parts or is encrypted by a key."""
    named = _MD5.fullmatch(answer["ETag"])
    by_key = answer.get("ServerSideEncryption") not in (None, "AES256") or "SSECustomerAlgorithm" in answer
    return named[1] if named and not by_key else None


@contextlib.contextmanager
def _translated(expected: str | None = None) -> Iterator[None]:
    """Turns the client's errors into failures.

    Args:
        expected: the version that a write is conditional on.
    """
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise _failure_of_answer(error, expected) from None
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.CredentialRetrievalError,
        botocore.exceptions.TokenRetrievalError,
        botocore.exceptions.SSOError,
    ) as error:
        raise PermanentFailure(str(error), _RENEW) from None
    except (
        botocore.exceptions.HTTPClientError,
        botocore.exceptions.IncompleteReadError,
        botocore.exceptions.ConnectionError,
        botocore.exceptions.MetadataRetrievalError,
        botocore.parsers.ResponseParserError,
        urllib3.exceptions.HTTPError,
        ssl.SSLError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise failure_of_connection(error) from None
    except botocore.exceptions.BotoCoreError as error:
        raise PermanentFailure(str(error), "check the settings of the S3 client (AWS_*)") from None


def _failure_of_answer(error: botocore.exceptions.ClientError, expected: str | None) -> Failure:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    told = f"{code}: {message}" if code and not code.isdigit() else message
    told = " ".join(told.split())[:300]
    if code in _CREDENTIAL_CODES:
        return PermanentFailure(f"HTTP {status} {told}", _RENEW)
    if code in _DAMAGE_CODES:
        return DamagedFailure(f"the store refused what arrived: {told}")
    if code in _TRANSIENT_CODES:
        return TransientFailure(f"HTTP {status} {told}")
    if code == "RequestTimeTooSkewed":
        return PermanentFailure(f"HTTP {status} {told}", "set this machine's clock")
    if code == "NoSuchKey" and expected is not None:
        return ConditionFailure()
    if code == "NoSuchKey":
        return AbsentFailure(f"HTTP {status} {told}", "check the spelling")
    return failure_of_status(status, told, _REMEDIES)

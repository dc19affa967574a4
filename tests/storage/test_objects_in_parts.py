"""Objects larger than S3 takes in one request, on both servers that speak its language."""

import os
from typing import Any

import pytest

from optduel.components.core import ConflictError, StorageError
from optduel.components.storage import list_entries, publish, publishing, read, read_part, s3, stat
from tests.faults.answers import status
from tests.faults.proxy import Fault
from tests.servers.places import Place, PlaceOf

CONTENT = os.urandom(12 << 20)


@pytest.fixture(params=["s3", "minio"])
def parts(request: pytest.FixtureRequest, place_of: PlaceOf, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store, and objects of more than 6 MiB that go there in parts of 5, the least that S3 takes."""
    monkeypatch.setattr(s3, "LARGEST_BYTES", 6 << 20)
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "6")
    return place_of(request.param)


def unfinished(place: Place) -> list[Any]:
    client = s3.S3Store("s3", "optduel-tests")._client()
    found: list[Any] = client.list_multipart_uploads(Bucket="optduel-tests").get("Uploads", [])
    return found


def test_a_large_object_appears_whole(parts: Place) -> None:
    with publishing(f"{parts.root}/large") as file:
        file.write(CONTENT)
    assert sum("partNumber=" in request.path for request in parts.proxy.requests) == 3
    assert read(f"{parts.root}/large") == CONTENT
    assert read_part(f"{parts.root}/large", 7 << 20, 100) == CONTENT[7 << 20 : (7 << 20) + 100]
    found = stat(f"{parts.root}/large")
    assert found is not None
    assert found.bytes == len(CONTENT)
    assert found.crc32c is not None


def test_conditions_hold_when_the_parts_are_joined(parts: Place) -> None:
    first = publish(f"{parts.root}/large", CONTENT, if_absent=True)
    with pytest.raises(ConflictError):
        publish(f"{parts.root}/large", CONTENT[::-1], if_absent=True)
    assert read(f"{parts.root}/large") == CONTENT
    publish(f"{parts.root}/large", CONTENT[::-1], if_version=first.version)
    with pytest.raises(ConflictError):
        publish(f"{parts.root}/large", CONTENT, if_version=first.version)
    assert read(f"{parts.root}/large") == CONTENT[::-1]
    assert not unfinished(parts)


FAULTS = {
    "lost part": Fault(lose_answer=True, methods=("PUT",), pattern="partNumber=2"),
    "503": Fault(answer=status(503), methods=("PUT",), pattern="partNumber=3"),
    "wrong bytes": Fault(flip_sent=True, methods=("PUT",), pattern="partNumber=2"),
    "lost end": Fault(lose_answer=True, methods=("POST",), pattern="uploadId="),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_that_pass_leave_the_object_whole(parts: Place, kind: str) -> None:
    fault = parts.proxy.inject(FAULTS[kind])
    fault.happened = 0
    publish(f"{parts.root}/large", CONTENT, if_absent=True)
    assert fault.happened == 1
    assert read(f"{parts.root}/large") == CONTENT


def test_what_fails_leaves_no_object_and_no_parts(parts: Place) -> None:
    parts.proxy.inject(Fault(answer=status(403), methods=("PUT",), pattern="partNumber=2", times=100))
    with pytest.raises(StorageError, match="HTTP 403"):
        publish(f"{parts.root}/large", CONTENT)
    assert not list_entries(parts.root)
    assert not unfinished(parts)

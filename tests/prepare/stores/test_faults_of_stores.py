"""Records in stores that fail: the same bytes after retries, or one error, and the next run completes."""

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

from optduel.components.core import StorageError
from optduel.components.prepare.prepare import prepare_source
from optduel.components.records import Records, encode_manifest
from optduel.components.settings import Data
from optduel.components.storage import Entry, list_entries, publish, read, stat
from tests.faults.answers import EXPIRED, status
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place, one_store

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]

ALWAYS = 1_000_000
SENDING = ("PUT", "POST")
MANIFEST = r"manifest\.json"
SHARD = r"\.tfrecord"


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "6")


@pytest.fixture
def undisturbed(images: Images, memory_source: Any, settings: Settings, tmp_path: Any) -> Records:
    """What a local folder gets."""
    return prepare_source(memory_source(images), settings(), tmp_path / "undisturbed", threads=2)


def contents(folder: str) -> dict[str, bytes]:
    return {entry.uri.rpartition("/")[2]: read(entry.uri) for entry in list_entries(folder)}


def entries(folder: str) -> dict[str, Entry | None]:
    return {entry.uri.rpartition("/")[2]: stat(entry.uri) for entry in list_entries(folder)}


PASSING: dict[str, Callable[[], Fault]] = {
    "503": lambda: Fault(answer=status(503), times=3),
    "429": lambda: Fault(answer=status(429), times=3),
    "503 to shards": lambda: Fault(answer=status(503), methods=SENDING, pattern=SHARD, times=3),
    "429 to the manifest": lambda: Fault(answer=status(429), methods=SENDING, pattern=MANIFEST, times=2),
    "reset in an answer": lambda: Fault(reset_at=0.5, methods=SENDING, pattern=SHARD),
    "reset while sending a shard": lambda: Fault(lose_answer=True, methods=SENDING, pattern=SHARD, times=2),
    "reset while sending the manifest": lambda: Fault(lose_answer=True, methods=SENDING, pattern=MANIFEST),
    "truncated answer": lambda: Fault(cut_at=0.5, methods=SENDING, pattern=SHARD),
    "truncated answer to the manifest": lambda: Fault(cut_at=0.5, methods=SENDING, pattern=MANIFEST),
    "wrong bytes in a shard": lambda: Fault(flip_sent=True, methods=SENDING, pattern=SHARD),
    "wrong bytes in the manifest": lambda: Fault(flip_sent=True, methods=SENDING, pattern=MANIFEST),
    "slow drip": lambda: Fault(drip=0.1, methods=SENDING, pattern=SHARD),
    "silence": lambda: Fault(silence=30),
    "silence after a shard": lambda: Fault(silence=30, methods=SENDING, pattern=SHARD),
}


@one_store
@pytest.mark.parametrize("kind", PASSING)
def test_faults_that_pass_change_no_byte(
    images: Images, memory_source: Any, settings: Settings, place: Place, undisturbed: Records, kind: str
) -> None:
    fault = place.proxy.inject(PASSING[kind]())
    records = prepare_source(memory_source(images), settings(), place.root, threads=2)
    assert fault.happened == fault.times
    assert records.manifest == undisturbed.manifest
    assert contents(records.location) == contents(undisturbed.location)
    before = entries(records.location)
    assert prepare_source(memory_source(images), settings(), place.root, threads=2) == records
    assert entries(records.location) == before


READ_AGAIN: dict[str, Callable[[], Fault]] = {
    "reset": lambda: Fault(reset_at=0.5, methods=("GET",), pattern=MANIFEST),
    "truncated": lambda: Fault(cut_at=0.5, methods=("GET",), pattern=MANIFEST),
    "wrong bytes": lambda: Fault(flip=True, methods=("GET",), pattern=MANIFEST),
    "slow drip": lambda: Fault(drip=0.1, methods=("GET",), pattern=MANIFEST),
    "silence": lambda: Fault(silence=30, methods=("GET",), pattern=MANIFEST),
}


@one_store
@pytest.mark.parametrize("kind", READ_AGAIN)
def test_a_manifest_that_arrives_damaged_is_read_again_and_nothing_is_written(
    images: Images, memory_source: Any, settings: Settings, place: Place, kind: str
) -> None:
    records = prepare_source(memory_source(images), settings(), place.root, threads=2)
    before = entries(records.location)
    fault = place.proxy.inject(READ_AGAIN[kind]())
    assert prepare_source(memory_source(images), settings(), place.root, threads=2) == records
    assert fault.happened == 1
    assert entries(records.location) == before


def test_a_race_for_the_manifest_that_is_lost_to_the_same_bytes_is_no_fault(
    images: Images, memory_source: Any, settings: Settings, place: Place, undisturbed: Records
) -> None:
    location = f"{place.root}/datasets/memory/{undisturbed.manifest.fingerprint}"
    winner = encode_manifest(undisturbed.manifest)

    def overtake() -> None:
        publish(f"{location}/manifest.json", winner)

    fault = place.proxy.inject(Fault(before=overtake, methods=SENDING, pattern=MANIFEST))
    records = prepare_source(memory_source(images), settings(), place.root, threads=2)
    assert fault.happened == 1
    assert records.manifest == undisturbed.manifest
    assert contents(records.location) == contents(undisturbed.location)


LASTING: dict[str, tuple[Callable[[str], Fault], str]] = {
    "403": (lambda kind: refusing(status(403)), "HTTP 403.*; grant the identity in use"),
    "404 bucket": (lambda kind: refusing(status(404)), "HTTP 404.*; .*create the bucket"),
    "429": (lambda kind: refusing(status(429)), "HTTP 429.*; .*try again"),
    "503": (lambda kind: refusing(status(503)), "HTTP 503.*; .*try again"),
    "expired": (lambda kind: refusing(EXPIRED[kind]), "; .*expired: renew"),
    "reset": (lambda kind: Fault(lose_answer=True, answer=status(200)), "attempts in.*; check the network"),
    "silence": (lambda kind: Fault(silence=30), "attempts in.*; check the network"),
    "wrong bytes": (lambda kind: Fault(flip_sent=True), "2 attempts in.*; write the object again"),
}


def refusing(answer: Answer) -> Fault:
    return Fault(answer=answer)


# Google's client leaves a connection to the garbage collector when it cannot renew its credentials.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@one_store
@pytest.mark.parametrize("moment", [SHARD, MANIFEST], ids=["shards", "manifest"])
@pytest.mark.parametrize("kind", LASTING)
def test_faults_that_last_are_one_error_and_the_next_run_completes(
    images: Images,
    memory_source: Any,
    settings: Settings,
    place: Place,
    undisturbed: Records,
    kind: str,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "1.5")
    location = f"{place.root}/datasets/memory/{undisturbed.manifest.fingerprint}"
    make, told = LASTING[kind]
    fault = make(place.kind)
    fault.methods, fault.pattern, fault.times = SENDING, moment, ALWAYS
    place.proxy.inject(fault)
    begun = time.monotonic()
    with pytest.raises(StorageError, match=f"^{location}/.*{told}"):
        prepare_source(memory_source(images), settings(), place.root, threads=2)
    assert time.monotonic() - begun < 6
    assert fault.happened >= 1
    place.proxy.reset()
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "6")
    left = entries(location)
    for name in left:
        assert read(f"{location}/{name}") == read(f"{undisturbed.location}/{name}")
    records = prepare_source(memory_source(images), settings(), place.root, threads=2)
    assert contents(records.location) == contents(undisturbed.location)
    assert entries(location).items() >= left.items()
    gc.collect()

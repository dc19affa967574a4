"""Whatever happens between here and the store: success after retries, or one error in bounded time."""

import concurrent.futures
import contextlib
import gc
import time
from collections.abc import Callable, Iterator

import pytest

from optduel.components.core import ConflictError, RefusedError, SetupError, StorageError
from optduel.components.storage import delete, join, list_entries, publish, publishing, read, stat
from tests.faults.answers import EXPIRED, status
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place, PlaceOf

SECONDS = 2.5
"""The time that an operation may take where it is to fail."""

PATIENT_SECONDS = 6.0
"""The same where it is to succeed, on a busy machine too."""

ALWAYS = 1_000_000

CONTENT = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", str(PATIENT_SECONDS))


@pytest.fixture
def place(place: Place) -> Place:
    """With clients at hand for both limits: to create one takes its time."""
    stat(f"{place.root}/a")
    with impatient():
        stat(f"{place.root}/a")
    place.proxy.requests.clear()
    return place


@contextlib.contextmanager
def in_bounded_time(bound: float = 1.2 * PATIENT_SECONDS) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < bound


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTDUEL_STORAGE_SECONDS", str(SECONDS))
        yield


@contextlib.contextmanager
def checked_error(uri: str, words: tuple[str, ...]) -> Iterator[None]:
    with in_bounded_time(1.2 * SECONDS), pytest.raises(StorageError) as raised:
        yield
    message = str(raised.value)
    assert message.startswith(f"{uri}: ")
    assert message.count(";") >= 1
    for word in words:
        assert word in message
    assert not isinstance(raised.value, ConflictError)
    assert raised.value.__cause__ is None


@contextlib.contextmanager
def one_error(uri: str, *words: str) -> Iterator[None]:
    """One error that names the URI, the cause and the remedy, at the latest when time is up."""
    with impatient(), checked_error(uri, words):
        yield


def overtaking(uri: str, content: bytes) -> Fault:
    """Another writer is just a little faster."""

    def write() -> None:
        publish(uri, content)

    return Fault(before=write, methods=("PUT", "POST"))


def check_works(place: Place, uri: str) -> None:
    """A read and a write succeed in spite of the faults."""
    with in_bounded_time():
        publish(uri, CONTENT)
        assert read(uri) == CONTENT
        found = stat(uri)
        assert found is not None
        assert found.bytes == len(CONTENT)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_burst_of_refusals_passes(place: Place, code: int) -> None:
    fault = place.proxy.inject(Fault(answer=status(code), times=2))
    check_works(place, f"{place.root}/a")
    assert fault.happened == 2


OPERATIONS: tuple[Callable[[str], object], ...] = (
    read,
    stat,
    delete,
    list_entries,
    lambda uri: publish(uri, CONTENT),
)


def errors_of(uri: str, *words: str) -> None:
    """Every operation, all at once, ends in one error in bounded time."""

    def check(operation: Callable[[str], object]) -> None:
        with checked_error(uri, words):
            operation(uri)

    with impatient(), concurrent.futures.ThreadPoolExecutor(len(OPERATIONS)) as pool:
        list(pool.map(check, OPERATIONS))


def test_a_store_that_refuses_for_long_is_named(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, CONTENT)
    place.proxy.inject(Fault(answer=status(503), times=ALWAYS))
    errors_of(uri, "HTTP 503 Service Unavailable", "attempts in", "try again")
    with impatient(), pytest.raises(StorageError) as raised:
        read(uri)
    assert type(raised.value) is StorageError, "another attempt may succeed"


def test_a_connection_reset_in_mid_body_is_read_again(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, CONTENT)
    place.proxy.inject(Fault(reset_at=0.5, methods=("GET",), times=2))
    with in_bounded_time():
        assert read(uri) == CONTENT
    place.proxy.inject(Fault(reset_at=0.5, methods=("GET",), times=ALWAYS))
    with one_error(uri, "attempts in", "check the network"):
        read(uri)


def test_a_truncated_body_is_never_taken_for_the_whole(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, CONTENT)
    place.proxy.inject(Fault(cut_at=0.5, methods=("GET",)))
    with in_bounded_time():
        assert read(uri) == CONTENT
    place.proxy.inject(Fault(cut_at=0.5, methods=("GET",), times=ALWAYS))
    with one_error(uri, "51200 bytes with CRC-32C", "arrived"):
        read(uri)


def test_wrong_bytes_are_read_again(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, CONTENT)
    place.proxy.inject(Fault(flip=True, methods=("GET",)))
    with in_bounded_time():
        assert read(uri) == CONTENT
    place.proxy.inject(Fault(flip=True, methods=("GET",), times=ALWAYS))
    with one_error(uri, "102400 bytes with CRC-32C", "arrived", "(2 attempts"):
        read(uri)


@pytest.mark.parametrize("conditions", [{}, {"if_absent": True}, {"if_version": True}], ids=str)
def test_bytes_that_arrive_wrong_are_written_again(place: Place, conditions: dict[str, bool]) -> None:
    uri = f"{place.root}/a"
    if "if_version" in conditions:
        version = publish(uri, b"old").version
        conditions = {"if_version": version}  # type: ignore[dict-item]
    place.proxy.inject(Fault(flip_sent=True, methods=("PUT", "POST")))
    with in_bounded_time():
        publish(uri, CONTENT, **conditions)  # type: ignore[arg-type]
    assert read(uri) == CONTENT


def test_a_large_object_that_arrives_wrong_is_written_again(place: Place) -> None:
    content = CONTENT * 100
    place.proxy.inject(Fault(flip_sent=True, methods=("PUT",)))
    with publishing(f"{place.root}/a") as file:
        file.write(content)
    assert read(f"{place.root}/a") == content


def test_a_slow_drip_ends(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, CONTENT)
    place.proxy.inject(Fault(drip=0.1, methods=("GET",)))
    with in_bounded_time():
        assert read(uri) == CONTENT
    place.proxy.inject(Fault(drip=0.1, methods=("GET",), times=ALWAYS))
    with one_error(uri, "no complete answer within", "check the network"):
        read(uri)


def test_a_silent_store_ends(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, CONTENT)
    place.proxy.inject(Fault(silence=30, times=2))
    with in_bounded_time():
        assert read(uri) == CONTENT
    place.proxy.inject(Fault(silence=30, times=ALWAYS))
    errors_of(uri, "attempts in", "check the network")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_silence_of_thirty_seconds_passes_by_default(
    place_of: PlaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPTDUEL_STORAGE_SECONDS")
    place = place_of("gs")
    publish(f"{place.root}/a", CONTENT)
    place.proxy.inject(Fault(silence=30, methods=("GET",)))
    with in_bounded_time(30):
        assert read(f"{place.root}/a") == CONTENT


def test_a_store_that_nobody_serves_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with one_error(f"{place.root}/a", "check the network"):
        read(f"{place.root}/a")


@pytest.mark.parametrize("code", [400, 403, 405])
def test_what_will_not_pass_is_not_tried_again(place: Place, code: int) -> None:
    place.proxy.inject(Fault(answer=status(code), times=ALWAYS))
    with in_bounded_time(1):
        errors_of(f"{place.root}/a", f"HTTP {code}")
    with pytest.raises(RefusedError, match=f"HTTP {code}"):
        read(f"{place.root}/b")
    asked = [(request.method, request.path) for request in place.proxy.requests]
    assert len(set(asked)) == len(asked) >= len(OPERATIONS)


DENIED = {
    "gs": b'{"error": {"code": 403, "message": "trainer@x.iam.gserviceaccount.com does not have '
    b'storage.objects.get access to the Google Cloud Storage object."}}',
    "s3": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/trainer "
    b"is not authorized to perform: s3:GetObject</Message></Error>",
}


def test_who_is_denied_what_is_named_with_the_remedy(place: Place) -> None:
    place.proxy.inject(Fault(answer=Answer(403, {}, DENIED[place.kind])))
    with one_error(f"{place.root}/a", "HTTP 403", "trainer", "grant the identity in use"):
        read(f"{place.root}/a")


# Google's client leaves a connection to the garbage collector when it cannot renew its credentials.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_expired_credentials_are_named_with_the_remedy(place: Place) -> None:
    fault = place.proxy.inject(Fault(answer=EXPIRED[place.kind], times=ALWAYS))
    with one_error(f"{place.root}/a", "expired", "renew"):
        read(f"{place.root}/a")
    assert fault.happened == 1
    gc.collect()


def test_missing_credentials_are_named_with_the_remedy(
    place_of: PlaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of("s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "2.4")  # a client of its own
    with checked_error(f"{place.root}/a", ("Unable to locate credentials", "renew the session")):
        read(f"{place.root}/a")


def test_a_lost_race_is_a_conflict_and_the_winner_stays(place: Place) -> None:
    uri = f"{place.root}/a"
    place.proxy.inject(overtaking(uri, b"winner"))
    with (
        in_bounded_time(),
        pytest.raises(ConflictError, match=f"^{uri}: was written by another writer"),
    ):
        publish(uri, b"loser", if_absent=True)
    assert read(uri) == b"winner"
    found = stat(uri)
    assert found is not None
    place.proxy.inject(overtaking(uri, b"next"))
    with (
        in_bounded_time(),
        pytest.raises(ConflictError, match=f"^{uri}: was written by another writer"),
    ):
        publish(uri, b"loser", if_version=found.version)
    assert read(uri) == b"next"


def test_our_own_write_is_known_when_its_answer_was_lost(place: Place) -> None:
    uri = f"{place.root}/a"
    place.proxy.inject(Fault(lose_answer=True, methods=("PUT", "POST")))
    with in_bounded_time():
        created = publish(uri, b"first", if_absent=True)
    assert read(uri) == b"first"
    place.proxy.inject(Fault(lose_answer=True, methods=("PUT", "POST")))
    with in_bounded_time():
        swapped = publish(uri, b"second", if_version=created.version)
    assert read(uri) == b"second"
    assert stat(uri) == swapped
    with pytest.raises(ConflictError):
        publish(uri, b"third", if_absent=True)


def test_another_write_is_not_taken_for_ours_when_an_answer_was_lost(place: Place) -> None:
    uri = f"{place.root}/a"
    # Ours never arrives.
    place.proxy.inject(Fault(lose_answer=True, answer=status(200), methods=("PUT", "POST")))
    place.proxy.inject(overtaking(uri, b"same"))
    with pytest.raises(ConflictError):
        publish(uri, b"same", if_absent=True)


def test_a_deletion_is_done_when_its_answer_was_lost(place: Place) -> None:
    uri = f"{place.root}/a"
    publish(uri, b"first")
    place.proxy.inject(Fault(lose_answer=True, methods=("DELETE",)))
    with in_bounded_time():
        delete(uri)
    assert stat(uri) is None


def test_an_upload_that_fails_leaves_the_old_content(place: Place) -> None:
    uri = join(place.root, "a")
    publish(uri, b"old")
    place.proxy.inject(Fault(silence=30, methods=("PUT", "POST"), times=ALWAYS))
    with one_error(uri, "attempts in"):
        publish(uri, CONTENT)
    place.proxy.faults.clear()
    assert read(uri) == b"old"


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", value)
    with pytest.raises(SetupError, match="^OPTDUEL_STORAGE_SECONDS = "):
        read("gs://bucket/a")

"""Checkpoints in real object stores on loopback: whatever happens on the way, none is half."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from optduel.components.core import StorageError
from optduel.components.storage import list_entries, publish, read
from optduel.components.train.loop.checkpoint import discard, latest, save
from tests.faults.answers import status
from tests.faults.proxy import Fault
from tests.servers.places import Place, one_store
from tests.train.checkpoints import a_checkpoint, assert_is, step_file

SECONDS = 4.0
"""The time that an operation may take."""

ALWAYS = 1_000_000


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", str(SECONDS))


def names(folder: str) -> list[str]:
    return [entry.uri.rpartition("/")[2] for entry in list_entries(folder)]


def test_the_newest_are_kept_and_a_finished_trial_keeps_none(place: Place) -> None:
    assert latest(place.root, "trial") is None
    for step in (9, 10, 11):
        save(place.root, a_checkpoint(step), kept=2)
    assert names(place.root) == [step_file(10), step_file(11)]
    assert_is(latest(place.root, "trial"), 11)
    discard(place.root)
    assert names(place.root) == []


@pytest.mark.parametrize("damage", ["flipped", "shortened", "emptied"])
def test_one_that_was_damaged_in_the_store_is_skipped_and_named(
    place: Place, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save(place.root, a_checkpoint(step), kept=2)
    uri = f"{place.root}/{step_file(2)}"
    content = read(uri)
    middle = len(content) // 2
    damaged = {
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "shortened": content[:middle],
        "emptied": b"",
    }
    publish(uri, damaged[damage])
    assert_is(latest(place.root, "trial"), 1)
    assert f"{uri}: damaged checkpoint skipped (" in capsys.readouterr().err


def test_progress_is_kept_where_a_newer_one_is_damaged(place: Place) -> None:
    save(place.root, a_checkpoint(9), kept=1)
    publish(f"{place.root}/{step_file(9)}", b"")
    for step in (3, 4):
        save(place.root, a_checkpoint(step), kept=1)
        assert_is(latest(place.root, "trial"), step)
    assert names(place.root) == [step_file(4)]


def test_one_that_differs_from_the_checksum_of_its_store_is_skipped_and_named(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save(place.root, a_checkpoint(step), kept=2)
    content = re_answered(place, step_file(2))
    assert content.happened == 0
    assert_is(latest(place.root, "trial"), 1)
    assert f"{place.root}/{step_file(2)}: damaged checkpoint skipped (" in capsys.readouterr().err


def re_answered(place: Place, name: str) -> Fault:
    """Every answer with the object's content is damaged, as if the disk below the store were."""
    return place.proxy.inject(Fault(flip=True, methods=("GET",), pattern=name, times=ALWAYS))


PASSING: dict[str, Callable[[], Fault]] = {
    "503": lambda: Fault(answer=status(503), times=2),
    "429": lambda: Fault(answer=status(429), times=2),
    "reset while sending": lambda: Fault(reset_at=0.5, methods=("PUT", "POST")),
    "reset while reading": lambda: Fault(reset_at=0.5, methods=("GET",), pattern="step-"),
    "truncated": lambda: Fault(cut_at=0.5, methods=("GET",), pattern="step-"),
    "wrong bytes": lambda: Fault(flip=True, methods=("GET",), pattern="step-"),
    "wrong bytes sent": lambda: Fault(flip_sent=True, methods=("PUT", "POST")),
    "lost answer": lambda: Fault(lose_answer=True, methods=("PUT", "POST")),
    "slow drip": lambda: Fault(drip=0.1, methods=("GET",), pattern="step-"),
    "silence": lambda: Fault(silence=30),
}


@one_store
@pytest.mark.parametrize("kind", PASSING)
def test_faults_that_pass_leave_every_checkpoint_as_it_was_saved(place: Place, kind: str) -> None:
    save(place.root, a_checkpoint(1), kept=2)
    fault = place.proxy.inject(PASSING[kind]())
    save(place.root, a_checkpoint(2), kept=2)
    assert_is(latest(place.root, "trial"), 2)
    assert fault.happened == fault.times
    assert names(place.root) == [step_file(1), step_file(2)]


LASTING: dict[str, tuple[Callable[[], Fault], str]] = {
    "403": (lambda: Fault(answer=status(403), times=ALWAYS), "HTTP 403"),
    "404 bucket": (lambda: Fault(answer=status(404), times=ALWAYS), "HTTP 404"),
    "503": (lambda: Fault(answer=status(503), times=ALWAYS), "HTTP 503"),
    "reset": (lambda: Fault(lose_answer=True, times=ALWAYS), "attempts in"),
    "silence": (lambda: Fault(silence=30, times=ALWAYS), "attempts in"),
}


@contextlib.contextmanager
def one_error(place: Place, cause: str) -> Iterator[None]:
    """One error in bounded time that names place, cause and remedy."""
    begun = time.monotonic()
    with pytest.raises(StorageError) as raised:
        yield
    assert time.monotonic() - begun < 1.5 * SECONDS
    message = str(raised.value)
    assert message.startswith(place.root)
    assert cause in message
    assert message.count(";") >= 1


@one_store
@pytest.mark.parametrize("kind", LASTING)
def test_faults_that_last_are_one_error_and_what_was_saved_stays(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(place.root, a_checkpoint(1), kept=2)
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "1.5")
    make, cause = LASTING[kind]
    place.proxy.inject(make())
    with one_error(place, cause):
        save(place.root, a_checkpoint(2), kept=2)
    with one_error(place, cause):
        latest(place.root, "trial")
    place.proxy.reset()
    found = latest(place.root, "trial")
    assert found is not None
    assert_is(found, found.step)


def test_one_that_cannot_be_reached_is_no_reason_to_begin_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(place.root, a_checkpoint(1), kept=2)
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "1.5")
    place.proxy.inject(Fault(answer=status(503), methods=("GET", "HEAD"), pattern="step-", times=ALWAYS))
    with one_error(place, "HTTP 503"):
        latest(place.root, "trial")

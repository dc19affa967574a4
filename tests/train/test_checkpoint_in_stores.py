"""Checkpoints in real object stores on loopback: whatever happens to a writer or on the way, none is half."""

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import StorageError
from components.core.storage import list_entries, publish, read, stat
from components.train.checkpoint import Checkpoint, discard, latest, save
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place, PlaceOf

REPOSITORY = Path(__file__).parents[2]
SECONDS = 4.0
"""The time that an operation may take."""

ALWAYS = 1_000_000


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", str(SECONDS))


def a_checkpoint(step: int) -> Checkpoint:
    arrays = {"kernel": np.random.default_rng(step).normal(size=(200, 50)), "slot": np.float32([step])}
    return Checkpoint(step, "trial", arrays, {"rows": [step]})


def assert_is(found: Checkpoint | None, step: int) -> None:
    assert found is not None
    saved = a_checkpoint(step)
    assert (found.step, found.state) == (saved.step, saved.state)
    for name, array in saved.arrays.items():
        assert found.arrays[name].tobytes() == array.tobytes()


def names(folder: str) -> list[str]:
    return [entry.uri.rpartition("/")[2] for entry in list_entries(folder)]


def step_file(step: int) -> str:
    return f"step-{step:010d}.npz"


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


def status(code: int) -> Answer:
    return Answer(code, {}, b"")


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


# --- killed writers -----------------------------------------------------------------------------------

MOMENTS = 10
"""For each kind of store."""

WRITERS = """
import json, os, random, signal, sys, time
import numpy as np
from tests.train.test_checkpoint_in_stores import a_checkpoint
from components.train.checkpoint import latest, save
folder, moments = json.loads(sys.argv[1])
for moment in moments:
    begun = latest(folder, "trial")
    told, tell = os.pipe()
    writer = os.fork()
    if writer == 0:
        step = begun.step if begun else 0
        while True:
            step += 1
            save(folder, a_checkpoint(step), kept=3)
            os.write(tell, step.to_bytes(4, "big"))
    os.close(tell)
    os.read(told, 4)
    time.sleep(moment)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    acknowledged = begun.step + 1 if begun else 1
    while step := os.read(told, 4):
        acknowledged = int.from_bytes(step, "big")
    os.close(told)
    print(acknowledged, flush=True)
    sys.stdin.readline()
"""
"""Kills one writer after the other, at moments given in seconds after its first checkpoint."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_killed_writers_leave_whole_checkpoints_and_none_that_was_saved_is_lost(
    kind: str, place_of: PlaceOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = place_of(kind)
    # No proxy that might hold back what a dying writer sent.
    name = "STORAGE_EMULATOR_HOST" if kind == "gs" else "AWS_ENDPOINT_URL_S3"
    monkeypatch.setenv(name, place.proxy.upstream)
    dice = random.Random(kind)
    moments = [dice.uniform(0, 0.1) for _ in range(MOMENTS)]
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, json.dumps([place.root, moments])],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writers:
        assert writers.stdin is not None
        assert writers.stdout is not None
        for _ in range(MOMENTS):
            acknowledged = int(writers.stdout.readline())
            steps = [int(entry.partition("-")[2].partition(".")[0]) for entry in names(place.root)]
            assert steps == list(range(steps[0], steps[0] + len(steps)))
            assert len(steps) <= 4, "three, and one whose writer died before it deleted the oldest"
            assert steps[-1] - acknowledged in (0, 1)
            found = latest(place.root, "trial")
            assert_is(found, steps[-1])
            for step in steps:
                assert stat(f"{place.root}/{step_file(step)}") is not None
            writers.stdin.write("\n")
            writers.stdin.flush()
    assert writers.returncode == 0
    assert "damaged" not in capsys.readouterr().err

"""Writers killed at random moments: no reader ever sees half an object, and the next writer completes."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.storage import delete, join, list_entries, publish, read, stat
from tests.servers.places import PlaceOf

REPOSITORY = Path(__file__).parents[2]

MOMENTS = 10
"""For each kind of store."""

SIZE = 9 << 20
"""Too large for one request to Cloud Storage."""

WRITERS = """
import itertools, json, os, signal, sys, time
from optduel.components.storage import publish, publishing, read
place, moments = json.loads(sys.argv[1])
begun = time.monotonic()
publish(place, b"a" * ((9 << 20) + ord("a")))
seconds = time.monotonic() - begun
for moment in moments:
    writer = os.fork()
    if writer == 0:
        for letter in itertools.cycle(b"bca"):
            content = bytes([letter]) * ((9 << 20) + letter)
            publish(place, content)
            with publishing(place) as file:
                file.write(content)
    time.sleep(moment * seconds)
    os.kill(writer, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(writer, 0)[1]) == signal.SIGKILL
    content = read(place)
    print(len(content), content[:1].decode(), content == content[:1] * len(content), flush=True)
"""
"""Kills one writer after the other, at moments given in durations of one write."""


@pytest.fixture(params=["local", "s3", pytest.param("gs", marks=pytest.mark.exhaustive)])
def unguarded(
    request: pytest.FixtureRequest, place_of: PlaceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A folder in a store, without a proxy that might hold back what a dying writer sent."""
    if request.param == "local":
        return str(tmp_path)
    place = place_of(request.param)
    name = "STORAGE_EMULATOR_HOST" if request.param == "gs" else "AWS_ENDPOINT_URL_S3"
    monkeypatch.setenv(name, place.proxy.upstream)
    return place.root


@pytest.mark.slow
def test_no_reader_sees_half_an_object(unguarded: str) -> None:
    place = join(unguarded, "object")
    dice = random.Random(unguarded[:2])
    moments = [dice.uniform(0, 3) for _ in range(MOMENTS)]
    command = [sys.executable, "-c", WRITERS, json.dumps([place, moments])]
    finished = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    seen = [line.split() for line in finished.stdout.splitlines()]
    assert len(seen) == MOMENTS
    for size, letter, whole in seen:
        assert whole == "True"
        assert int(size) == SIZE + ord(letter)
    assert {letter for _, letter, _ in seen} != {"a"}  # what lay there before the writers
    publish(place, b"next")
    assert read(place) == b"next"
    found = {entry.uri for entry in list_entries(unguarded)}
    assert found == {place}


def test_a_creator_killed_in_mid_write_has_created_nothing(unguarded: str) -> None:
    place = join(unguarded, "object")
    code = f"""
import sys, time
from optduel.components.storage import publishing
with publishing({place!r}) as file:
    file.write(b"half of the new con")
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    assert stat(place) is None
    assert list_entries(unguarded) == []
    publish(place, b"next", if_absent=True)
    delete(place)

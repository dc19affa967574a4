"""Objects too large to be held in memory: streamed, whole or not at all, whatever happens on the way."""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.core import StorageError
from optduel.components.storage import list_entries, publishing, read, stat
from tests.faults.answers import EXPIRED, status
from tests.faults.proxy import Fault
from tests.servers.places import Place, PlaceOf

REPOSITORY = Path(__file__).parents[2]

SECONDS = 6.0
"""The time that an operation may take beyond moving its bytes."""

ALWAYS = 1_000_000

CONTENT = bytes(range(251)) * 40_000
"""10 MB: in one request to S3, and in two to Cloud Storage, whose first announces the object by POST."""


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", str(SECONDS))


def write(uri: str, content: bytes = CONTENT) -> None:
    with publishing(uri) as file:
        file.write(content)


PASSING: dict[str, Callable[[], Fault]] = {
    "503": lambda: Fault(answer=status(503), methods=("PUT",), times=2),
    "429": lambda: Fault(answer=status(429), methods=("PUT",), times=2),
    "503 to the announcement": lambda: Fault(answer=status(503), methods=("POST",), times=2),
    "lost answer": lambda: Fault(lose_answer=True, methods=("PUT",)),
    "lost content": lambda: Fault(lose_answer=True, answer=status(200), methods=("PUT",)),
    "wrong bytes sent": lambda: Fault(flip_sent=True, methods=("PUT",)),
    "truncated answer": lambda: Fault(cut_at=0.5, methods=("PUT",)),
    "silence": lambda: Fault(silence=30, methods=("PUT",)),
    "reset while reading": lambda: Fault(reset_at=0.5, methods=("GET",), pattern="large"),
    "truncated": lambda: Fault(cut_at=0.5, methods=("GET",), pattern="large"),
    "wrong bytes": lambda: Fault(flip=True, methods=("GET",), pattern="large"),
}


@pytest.mark.parametrize("kind", PASSING)
def test_faults_that_pass_leave_the_object_whole(place: Place, kind: str) -> None:
    fault = place.proxy.inject(PASSING[kind]())
    write(f"{place.root}/large")
    assert read(f"{place.root}/large") == CONTENT
    if not (place.kind == "s3" and "POST" in fault.methods):
        assert fault.happened == fault.times


@pytest.mark.parametrize("code", [308, 404, 410])
def test_an_upload_that_the_store_has_forgotten_begins_anew(place_of: PlaceOf, code: int) -> None:
    place = place_of("gs")
    fault = place.proxy.inject(Fault(answer=status(code), methods=("PUT",)))
    write(f"{place.root}/large")
    assert fault.happened == 1
    assert len([request for request in place.proxy.requests if request.method == "POST"]) == 2
    assert read(f"{place.root}/large") == CONTENT


LASTING = {
    "403": (lambda kind: status(403), "HTTP 403.*; grant the identity in use"),
    "expired": (lambda kind: EXPIRED[kind], "; .*expired: renew"),
}


# Google's client leaves a connection to the garbage collector when it cannot renew its credentials.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", LASTING)
def test_faults_that_last_are_one_error_and_no_object(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "2")
    answer, told = LASTING[kind]
    place.proxy.inject(Fault(answer=answer(place.kind), methods=("PUT",), times=ALWAYS))
    begun = time.monotonic()
    with pytest.raises(StorageError, match=f"^{place.root}/large: .*{told}") as raised:
        write(f"{place.root}/large")
    # The bytes themselves may take a second for each MiB.
    assert time.monotonic() - begun < 2 + 1.2 * len(CONTENT) / (1 << 20)
    assert "upload_id" not in str(raised.value)
    assert stat(f"{place.root}/large") is None
    assert list_entries(place.root) == []
    gc.collect()


def test_a_slow_connection_is_no_fault(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit for a silence, here 5 s, holds for a block, not for the seven seconds of the whole."""
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "25")
    place.proxy.bytes_per_second = 3_000_000
    write(f"{place.root}/large", 2 * CONTENT)
    assert len([request for request in place.proxy.requests if request.method == "PUT"]) == 1
    place.proxy.bytes_per_second = None
    assert read(f"{place.root}/large") == 2 * CONTENT


COPIES = """
import json, re, sys
from pathlib import Path
from optduel.components.storage import Download, Upload, delete, download, upload
folder, place = Path(sys.argv[1]), sys.argv[2]

def peak():  # that of getrusage begins with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

peaks = []
for megabytes in (1, 32):
    for number in range(4):
        with (folder / str(number)).open("wb") as file:
            file.truncate(megabytes << 20)
    upload([Upload(folder / str(number), f"{place}/{number}") for number in range(4)])
    peaks.append(peak())
    download([Download(f"{place}/{number}", folder / str(number)) for number in range(4)])
    peaks.append(peak())
    for number in range(4):
        delete(f"{place}/{number}")
print(json.dumps(peaks))
"""
"""Copies small and large files up and down; prints the process' peak memory after each step in MiB."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_memory_does_not_grow_with_the_objects(
    kind: str, place_of: PlaceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(kind)
    # Not through the proxy, which holds bodies in memory.
    name = "STORAGE_EMULATOR_HOST" if kind == "gs" else "AWS_ENDPOINT_URL_S3"
    monkeypatch.setenv(name, place.proxy.upstream)
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "60")
    command = [sys.executable, "-c", COPIES, str(tmp_path), place.root]
    finished = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    small_up, small_down, large_up, large_down = json.loads(finished.stdout)
    assert max(large_up, large_down) - max(small_up, small_down) < 24, finished.stdout

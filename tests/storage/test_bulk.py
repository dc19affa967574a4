"""Many objects at once."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import google_crc32c
import pytest

from optduel.components.core import StorageError
from optduel.components.storage import Download, Entry, Upload, download, join, list_entries, publish, upload
from optduel.components.storage.retries import AbandonedError
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place, PlaceOf

REPOSITORY = Path(__file__).parents[2]


def crc32c(content: bytes) -> str:
    return f"{google_crc32c.value(content):08x}"


def contents(count: int) -> list[bytes]:
    return [random.Random(number).randbytes(100_000 + number) for number in range(count)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "sources"
    folder.mkdir()
    for number, content in enumerate(contents(12)):
        (folder / f"{number:02}.bin").write_bytes(content)
    return sorted(folder.iterdir())


def test_files_go_to_a_store_and_come_back(root: str, files: list[Path], tmp_path: Path) -> None:
    told: list[Entry] = []
    places = [join(root, f"shards/{file.name}") for file in files]
    targets = [tmp_path / "staged" / file.name for file in files]
    uploaded = upload([Upload(file, place) for file, place in zip(files, places, strict=True)], told.append)
    assert [(entry.bytes, entry.crc32c) for entry in uploaded] == [
        (len(content), crc32c(content)) for content in contents(12)
    ]
    assert [entry.version for entry in uploaded] == [
        entry.version for entry in list_entries(join(root, "shards"))
    ]
    assert sorted(entry.uri for entry in told) == sorted(entry.uri for entry in uploaded)
    told.clear()
    wanted = [
        Download(place, target, entry.bytes, entry.crc32c)
        for place, target, entry in zip(places, targets, uploaded, strict=True)
    ]
    downloaded = download(wanted, told.append)
    assert [target.read_bytes() for target in targets] == contents(12)
    assert [entry.crc32c for entry in downloaded] == [entry.crc32c for entry in uploaded]
    assert sorted(entry.uri for entry in told) == sorted(entry.uri for entry in downloaded)
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == [file.name for file in files]


@pytest.mark.parametrize(
    ("size", "checksum", "expected"),
    [
        (7, None, "7 bytes"),
        (6, "00000000", "6 bytes with CRC-32C 00000000"),
        (None, "00000000", "CRC-32C 00000000"),
    ],
)
def test_another_object_than_expected_is_named(
    root: str, tmp_path: Path, size: int | None, checksum: str | None, expected: str
) -> None:
    place = join(root, "a")
    publish(place, b"swaped")
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(
        StorageError, match=rf"a: .*6 bytes with CRC-32C \w+.*, not the expected {expected}.*; .*write"
    ):
        download([Download(place, target, size, checksum)])
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_missing_source_is_named(root: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no-such"):
        download([Download(join(root, "no-such"), tmp_path / "target")])
    with pytest.raises(StorageError, match="no-such"):
        upload([Upload(tmp_path / "no-such", join(root, "a"))])
    assert list(tmp_path.iterdir()) == []
    assert list_entries(root) == []


def test_no_more_transfers_run_at_once_than_are_allowed(place: Place, files: list[Path]) -> None:
    upload([Upload(file, join(place.root, file.name)) for file in files], threads=3)
    assert 2 <= place.proxy.busiest <= 3


def test_what_is_damaged_on_the_way_is_fetched_once_more(
    place: Place, files: list[Path], tmp_path: Path
) -> None:
    places = [join(place.root, file.name) for file in files]
    uploaded = upload([Upload(file, uri) for file, uri in zip(files, places, strict=True)])
    wanted = [
        Download(entry.uri, tmp_path / str(n), entry.bytes, entry.crc32c) for n, entry in enumerate(uploaded)
    ]
    faults = [
        place.proxy.inject(Fault(flip=True, methods=("GET",), pattern="00.bin")),
        place.proxy.inject(Fault(cut_at=0.5, methods=("GET",), pattern="01.bin")),
        place.proxy.inject(Fault(reset_at=0.5, methods=("GET",), pattern="02.bin")),
        place.proxy.inject(Fault(answer=Answer(503, {}, b""), times=3)),
    ]
    download(wanted)
    assert [(tmp_path / str(n)).read_bytes() for n in range(12)] == contents(12)
    assert [fault.happened for fault in faults] == [1, 1, 1, 3]


def test_the_first_failure_ends_the_others(place: Place, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        publish(join(place.root, name), b"x")
    place.proxy.inject(Fault(silence=20, methods=("GET",), pattern=r"(%2F|/)[ac](\?|$)", times=100))
    place.proxy.inject(Fault(answer=Answer(403, {}, b""), methods=("GET",), times=100))
    begun = time.monotonic()
    with pytest.raises(StorageError, match="b: HTTP 403"):
        download([Download(join(place.root, name), tmp_path / name) for name in ("a", "b", "c")])
    assert time.monotonic() - begun < 3
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_an_interruption_ends_the_transfers(place: Place, files: list[Path]) -> None:
    def interrupt(_: Entry) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload([Upload(file, join(place.root, file.name)) for file in files], interrupt, threads=1)
    assert 1 <= len(list_entries(place.root)) <= 2


def test_transfers_that_nobody_wants_any_more_end(place: Place, tmp_path: Path) -> None:
    publish(join(place.root, "a"), b"x")
    place.proxy.inject(Fault(silence=20, methods=("GET",), times=100))
    stopped = threading.Event()
    threading.Timer(0.5, stopped.set).start()
    begun = time.monotonic()
    with pytest.raises(AbandonedError):
        download([Download(join(place.root, "a"), tmp_path / "a")], stopped=stopped)
    assert time.monotonic() - begun < 3


def test_a_full_disk_is_named(place_of: PlaceOf, tmp_path: Path) -> None:
    """Not taken for a fault of the network, which is tried again."""
    place = place_of("gs")
    publish(join(place.root, "a"), bytes(1 << 20))
    code = f"""
import resource, signal
from pathlib import Path
from optduel.components.core.errors import StorageError
from optduel.components.storage import Download, download
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
try:
    download([Download({join(place.root, "a")!r}, Path({str(tmp_path)!r}, "a"))])
except StorageError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout == f"{tmp_path}/a: File too large; check the place\n"
    assert list(tmp_path.iterdir()) == []

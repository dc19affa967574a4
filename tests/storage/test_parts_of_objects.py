"""Parts of objects, read without the rest."""

import random
from pathlib import Path

import google_crc32c
import pytest

from optduel.components.core import StorageError
from optduel.components.storage import Download, download, publish, read_part
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place


def test_a_part_is_read_and_no_more(place: Place) -> None:
    content = bytes(range(256)) * 4096
    publish(f"{place.root}/x", content)
    for start, size in ((0, 1), (0, len(content)), (1000, 5000), (len(content) - 1, 1)):
        assert read_part(f"{place.root}/x", start, size) == content[start : start + size]


def test_a_part_that_is_not_there_is_an_error(place: Place) -> None:
    publish(f"{place.root}/x", b"short")
    with pytest.raises(StorageError, match=f"{place.root}/x: "):
        read_part(f"{place.root}/x", 3, 10)
    with pytest.raises(StorageError, match=f"{place.root}/none: HTTP 404"):
        read_part(f"{place.root}/none", 0, 10)


def test_a_part_that_is_cut_on_the_way_is_fetched_again(place: Place) -> None:
    publish(f"{place.root}/x", bytes(100_000))
    fault = place.proxy.inject(Fault(cut_at=0.5, methods=("GET",), pattern="x"))
    assert read_part(f"{place.root}/x", 0, 90_000) == bytes(90_000)
    assert fault.happened == 1


def test_a_part_of_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    assert read_part(tmp_path / "x", 3, 4) == b"3456"
    with pytest.raises(StorageError, match="x: ends at byte 10; write it again"):
        read_part(tmp_path / "x", 8, 4)
    with pytest.raises(StorageError, match="none: No such file"):
        read_part(tmp_path / "none", 0, 1)


def fetched(place: Place, tmp_path: Path, content: bytes, known: bool = True) -> Path:
    size, checksum = (len(content), f"{google_crc32c.value(content):08x}") if known else (None, None)
    target = tmp_path / "copy" / "x"
    download([Download(f"{place.root}/x", target, size, checksum)])
    assert list(target.parent.iterdir()) == [target], "no part stays behind"
    return target


def asked_for(place: Place) -> list[str]:
    """The ranges of the content that were asked for; an empty one is all of it."""
    content = [one for one in place.proxy.requests if one.method == "GET" and is_content(one.path)]
    return [one.headers.get("range", one.headers.get("Range", "")) for one in content]


def is_content(path: str) -> bool:
    return "alt=media" in path or path.endswith("/x")


def test_a_transfer_that_breaks_off_goes_on_where_it_broke_off(place: Place, tmp_path: Path) -> None:
    """A shard of 256 MB over a network that breaks every minute would else never arrive."""
    content = random.Random(0).randbytes(4_000_000)
    publish(f"{place.root}/x", content)
    breaks = place.proxy.inject(Fault(reset_at=0.5, methods=("GET",), pattern=r"alt=media|/x$", times=3))
    assert fetched(place, tmp_path, content).read_bytes() == content
    assert breaks.happened == 3
    whole, *rest = asked_for(place)
    starts = [int(one.removeprefix("bytes=").partition("-")[0]) for one in rest]
    assert whole == ""
    assert len(starts) == 3
    # How much of what was sent before a reset arrives is the network's affair.
    assert 0 < starts[0] <= starts[1] <= starts[2] < len(content)


def test_what_has_arrived_is_not_lost_where_the_store_does_not_answer(place: Place, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(4_000_000)
    publish(f"{place.root}/x", content)
    place.proxy.inject(Fault(reset_at=0.5, methods=("GET",), pattern=r"alt=media|/x$"))
    broken = Answer(503, {}, b"")
    place.proxy.inject(Fault(answer=broken, methods=("GET", "HEAD"), pattern="x", before=None, times=2))
    assert fetched(place, tmp_path, content).read_bytes() == content
    assert asked_for(place)[-1].startswith("bytes=")


def test_what_was_damaged_before_it_broke_off_is_fetched_whole(place: Place, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(4_000_000)
    publish(f"{place.root}/x", content)
    place.proxy.inject(Fault(reset_at=0.7, flip=True, methods=("GET",), pattern="x"))
    assert fetched(place, tmp_path, content).read_bytes() == content


def test_an_object_of_which_nothing_is_known_is_fetched_from_its_start(place: Place, tmp_path: Path) -> None:
    """It may have been replaced meanwhile: no checksum would tell a mixture from either."""
    content = random.Random(0).randbytes(1_000_000)
    publish(f"{place.root}/x", content)
    place.proxy.inject(Fault(reset_at=0.5, methods=("GET",), pattern="x"))
    assert fetched(place, tmp_path, content, known=False).read_bytes() == content
    assert set(asked_for(place)) == {""}

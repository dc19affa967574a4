"""Parts of objects, read without the rest."""

from pathlib import Path

import pytest

from optduel.components.core import StorageError
from optduel.components.storage import publish, read_part
from tests.faults.proxy import Fault
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

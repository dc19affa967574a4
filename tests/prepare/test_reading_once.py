"""Each image is read once, and the records are the same however much room there is."""

import contextlib
import hashlib
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.core import DataError
from optduel.components.prepare import reading
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.records import Records
from optduel.components.settings import Data, DigitsSource

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]
Contents = Callable[[Records], dict[str, bytes]]


@pytest.fixture
def counting_source(memory_source: Any) -> Any:
    class Counting(memory_source):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.reads: Counter[int] = Counter()

        def read(self, position: int) -> bytes:
            self.reads[position] += 1
            return bytes(super().read(position))

    return Counting


@pytest.mark.parametrize("choice", ["tell", "move"])
def test_every_image_is_read_once(
    images: Images, counting_source: Any, settings: Settings, tmp_path: Path, choice: str
) -> None:
    source = counting_source(images)
    prepare_source(source, settings(near_duplicates=choice, image_size=(32, 32)), tmp_path, threads=3)
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == len(images)


def test_without_room_for_copies_images_are_read_again(
    images: Images,
    counting_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    nothing_is_kept: None,
) -> None:
    source = counting_source(images)
    found = prepare_source(source, settings(), tmp_path / "1", threads=2)
    assert set(source.reads.values()) == {2}
    assert len(contents_of(found)) == 13


def test_shards_that_cannot_be_held_back_are_the_same(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = ("cut", 0, images[0][2][:100], False)
    for number, data in enumerate((settings(), settings(skip_corrupt=True))):
        source = memory_source([*images, cut] if data.skip_corrupt else images)
        held = prepare_source(source, data, tmp_path / f"held-{number}", threads=2)
        with monkeypatch.context() as patch:
            patch.setattr(resource, "getrlimit", lambda _: (10, 10))
            written = prepare_source(source, data, tmp_path / f"written-{number}", threads=2)
        assert contents_of(written) == contents_of(held)


@pytest.mark.parametrize("is_held", [True, False])
def test_nothing_is_left_of_a_refused_data_set(
    images: Images,
    memory_source: Any,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_held: bool,
) -> None:
    if not is_held:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 10))
    broken = [("one", 0, images[0][2][:100], False), ("two", 1, images[1][2][:90], False)]
    with pytest.raises(DataError) as caught:
        prepare_source(memory_source([*images, *broken]), settings(), tmp_path / "root", threads=2)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()[1:]] == ["one", "two"]
    assert not (tmp_path / "root").exists()


def test_records_of_digits_are_those_of_earlier_versions(tmp_path: Path) -> None:
    data = Data(source=DigitsSource(), image_size=(8, 8), channels=1)
    manifest = prepare_records(data, str(tmp_path)).manifest
    assert manifest.fingerprint.startswith("a2afc08e0e5537ce")
    assert [shard.crc32c for shard in manifest.splits["train"].shards][:3] == [
        "2183b41f",
        "1e3dee56",
        "5f339237",
    ]


def test_copies_keep_to_the_budget_of_the_staging_folder(
    images: Images, counting_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_STAGING", str(tmp_path / "staging"))
    total = sum(len(encoded) for _, _, encoded, _ in images)
    monkeypatch.setenv("OPTDUEL_STAGING_BYTES", str(total))  # half of which may be taken
    source = counting_source(images)
    digests = [hashlib.sha256(encoded).digest() for _, _, encoded, _ in images]
    with contextlib.closing(reading.Images(source, is_near=False, reserved=0)) as copies:
        first = [copies.read(position) for position in range(len(images))]
        again = [copies.read_again(position, digest) for position, digest in enumerate(digests)]
    assert again == first == [encoded for _, _, encoded, _ in images]
    assert set(source.reads.values()) == {1, 2}


def test_what_is_held_in_memory_keeps_to_its_share(
    images: Images, counting_source: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(len(encoded) for _, _, encoded, _ in images)
    monkeypatch.setattr(reading, "usable_memory", lambda: 8 * total // 2)
    source = counting_source(images)
    prepare_source(source, settings(), tmp_path / "root", threads=1)
    assert set(source.reads.values()) == {1, 2}

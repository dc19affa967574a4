"""Memory, disk and cores that work keeps within."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.core import OutOfMemoryError, StorageError
from optduel.components.prepare import prepare as stage
from optduel.components.prepare.disk import check_disk, writing_threads
from optduel.components.prepare.image import decode_resized, decoding
from optduel.components.prepare.prepare import prepare_source
from optduel.components.prepare.room import Room
from optduel.components.prepare.shards import SHARD_BYTES, count_shards, record_bytes
from optduel.components.settings import Data

Encode = Callable[..., bytes]
Settings = Callable[..., Data]


class CountedRoom(Room):
    """Notes the most that was taken at a time, and by how many."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.largest = 0

    def note(self) -> None:
        self.largest = max(self.largest, self._taken)


def test_threads_share_the_room_and_wait_for_one_another() -> None:
    room, meeting = CountedRoom(100), threading.Barrier(2)
    done = []

    def work(number: int) -> None:
        with room.taking(40):
            room.note()
            if number < 2:
                meeting.wait(30)  # two are in at a time, and not three
            done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(8))
    assert room.largest == 80


def test_room_is_given_back_after_an_error() -> None:
    room = Room(100)
    for _ in range(3):
        with pytest.raises(KeyError), room.taking(100):
            raise KeyError
    with room.taking(100):
        pass


def test_an_image_for_which_there_is_never_room_is_refused_by_its_header(encode: Encode) -> None:
    encoded = encode(Image.new("RGB", (1000, 1000)), "PNG")
    with pytest.raises(
        OutOfMemoryError, match="decoding an image takes 4,000,000 bytes of memory, of which 3,"
    ):
        decode_resized(encoded, 4, 4, 3, Room(3_999_999))
    assert decode_resized(encoded, 4, 4, 3, Room(4_000_000)).image.size == (4, 4)


@pytest.mark.parametrize(
    ("mode", "image_format", "options", "each"),
    [
        ("RGB", "JPEG", {}, 4),
        ("L", "PNG", {}, 4),
        ("RGB", "JPEG", {"progressive": True}, 10),
        ("CMYK", "JPEG", {}, 20),
        ("RGBA", "PNG", {}, 20),
    ],
)
def test_what_an_image_takes_is_known_by_its_header(
    encode: Encode, mode: str, image_format: str, options: dict[str, Any], each: int
) -> None:
    room = CountedRoom(2**20)
    with decoding(encode(Image.new(mode, (30, 20)), image_format, **options), room):
        room.note()
    assert room.largest == each * 30 * 20


def test_the_stage_stays_within_half_of_the_memory(
    encode: Encode, memory_source: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen threads, and memory for three images."""
    rooms: list[CountedRoom] = []

    class Watched(CountedRoom):
        def __init__(self, total: int) -> None:
            super().__init__(total)
            rooms.append(self)

        def taking(self, needed: int) -> Any:
            self.note()
            return super().taking(needed)

    monkeypatch.setattr(stage, "Room", Watched)
    monkeypatch.setattr(stage, "usable_memory", lambda: 2 * 3 * 4 * 400 * 300)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 3), dtype=np.uint8)
    encoded = [encode(Image.fromarray(image).resize((400, 300)), "JPEG") for image in pixels]
    images = [(f"{number}", number % 3, content, False) for number, content in enumerate(encoded)]
    records = prepare_source(memory_source(images), settings(), tmp_path, threads=16)
    assert sum(split.records for split in records.manifest.splits.values()) == 60
    (room,) = rooms
    assert room.total == 3 * 4 * 400 * 300
    assert 0 < room.largest <= room.total


def test_shards_are_counted_by_bytes_in_multiples_of_the_setting(settings: Settings) -> None:
    photos = settings(image_size=(224, 224), shards=8)
    assert record_bytes(photos) == 224 * 224 * 3 + 48
    assert count_shards(0, photos) == 8
    assert count_shards(14_000, photos) == 8  # 2.1 GB
    assert count_shards(15_000, photos) == 16
    assert count_shards(1_281_167, photos) == 720  # ImageNet
    for records in range(1, 200_000, 1_111):
        shards = count_shards(records, photos)
        assert shards % 8 == 0
        assert -(-records // shards) * record_bytes(photos) <= SHARD_BYTES + record_bytes(photos)
    assert count_shards(1_281_167, settings(image_size=(224, 224), shards=3)) % 3 == 0
    assert count_shards(1_281_167, settings(image_size=(224, 224), encoding="jpeg")) == 180


def test_large_data_sets_have_more_shards_and_another_fingerprint(
    images: Any, memory_source: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = memory_source(images)
    small = prepare_source(source, settings(shards=2), tmp_path, threads=2)
    for module in ("shards", "identity"):
        monkeypatch.setattr(f"optduel.components.prepare.{module}.SHARD_BYTES", 4 * 1024)
    large = prepare_source(source, settings(shards=2), tmp_path, threads=2)
    assert large.manifest.fingerprint != small.manifest.fingerprint
    assert [len(split.shards) for split in large.manifest.splits.values()] == [4, 2, 2]
    assert [len(split.shards) for split in small.manifest.splits.values()] == [2, 2, 2]
    assert max(shard.bytes for split in large.manifest.splits.values() for shard in split.shards) < 5 * 1024
    assert prepare_source(source, settings(shards=2), tmp_path, threads=2) == large


def test_temporary_disk_bounds_the_threads_that_write_to_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert writing_threads("gs://bucket/x", 300, 1, 10**9, 16) == 3
    assert writing_threads("/data", 300, 1, 10**9, 16) == 16
    assert writing_threads("/data", 300, 100, 1000, 16) == 2
    assert writing_threads("/data", 300, 100, 10, 16) == 1
    with pytest.raises(StorageError, match="needs 1,001 bytes for a shard on its way to the store, of"):
        writing_threads("gs://bucket/x", 1001, 1, 10**9, 16)
    check_disk("gs://bucket/x", 10**18)
    check_disk(str(tmp_path / "new" / "folder"), 1000)
    with pytest.raises(StorageError, match="new/folder: the records take 1,001 bytes, of which 1,000"):
        check_disk(str(tmp_path / "new" / "folder"), 1001)

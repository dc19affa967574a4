"""Records written straight to object stores, by one writer or several, whole or killed."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.core import ConflictError
from optduel.components.prepare.card import records_card
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.records import Records, encode_manifest
from optduel.components.records.integrity import verify_shards
from optduel.components.settings import Data, DigitsSource
from optduel.components.storage import Entry, delete, join, list_entries, publish, read, stat
from tests.prepare.stores.writer_process import start
from tests.servers.places import Place

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]
DIGITS = Data(source=DigitsSource(), image_size=(64, 64), channels=1, shards=8)


def contents(records: Records) -> dict[str, bytes]:
    return {entry.uri.rpartition("/")[2]: read(entry.uri) for entry in list_entries(records.location)}


def entries(folder: str) -> dict[str, Entry | None]:
    """What is there, by name; the writer of an object in a store is another one with every write."""
    return {entry.uri.rpartition("/")[2]: stat(entry.uri) for entry in list_entries(folder)}


def verify_all(records: Records) -> None:
    verify_shards(records, [shard for split in records.manifest.splits.values() for shard in split.shards])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What an undisturbed writer makes on this machine."""
    return prepare_records(DIGITS, str(tmp_path_factory.mktemp("undisturbed")))


def test_a_store_gets_the_bytes_that_a_local_folder_gets(
    images: Images, memory_source: Any, settings: Settings, place: Place, tmp_path: Path
) -> None:
    local = prepare_source(memory_source(images), settings(), tmp_path / "root", threads=2)
    records = prepare_source(memory_source(images), settings(), place.root, threads=3)
    assert records.location == f"{place.root}/datasets/memory/{local.manifest.fingerprint}"
    assert records.manifest == local.manifest
    assert contents(records) == contents(local)
    assert records_card(records).replace(records.location, local.location) == records_card(local)


def test_what_is_there_is_neither_written_nor_read_again(
    images: Images, memory_source: Any, settings: Settings, place: Place
) -> None:
    first = prepare_source(memory_source(images), settings(), place.root, threads=2)
    before = entries(first.location)
    place.proxy.requests.clear()
    assert prepare_source(memory_source(images), settings(), place.root, threads=2) == first
    assert entries(first.location) == before
    assert {request.method for request in place.proxy.requests} <= {"GET", "HEAD"}
    received = [request.path for request in place.proxy.requests if request.method == "GET"]
    if place.kind == "s3":
        assert not [path for path in received if "tfrecord" in path]
    else:
        assert not [path for path in received if "tfrecord" in path and "alt=media" in path]


@pytest.mark.parametrize("damage", ["flipped", "shortened", "removed"])
def test_only_damaged_shards_are_written_again(
    images: Images, memory_source: Any, settings: Settings, place: Place, damage: str
) -> None:
    first = prepare_source(memory_source(images), settings(), place.root, threads=2)
    whole, before = contents(first), entries(first.location)
    shard = first.manifest.splits["train"].shards[2]
    content = read(first.place(shard))
    match damage:
        case "flipped":
            publish(first.place(shard), content[:100] + bytes([content[100] ^ 1]) + content[101:])
        case "shortened":
            publish(first.place(shard), content[:-1])
        case "removed":
            delete(first.place(shard))
    assert prepare_source(memory_source(images), settings(), place.root, threads=2) == first
    assert contents(first) == whole
    after = entries(first.location)
    assert {name for name in after if after[name] != before[name]} == {shard.file, "manifest.json"}


def test_finished_shards_of_an_interrupted_writer_stay(
    images: Images, memory_source: Any, settings: Settings, root: str
) -> None:
    first = prepare_source(memory_source(images), settings(), root, threads=2)
    whole = contents(first)
    delete(join(first.location, "manifest.json"))
    absent, short, *_ = first.manifest.splits["train"].shards
    delete(first.place(absent))
    before = entries(first.location)
    if "://" not in root:  # a store's objects are whole, or not there
        publish(first.place(short), read(first.place(short))[:-1])
    assert prepare_source(memory_source(images), settings(), root, threads=2) == first
    assert contents(first) == whole
    after = entries(first.location)
    written = {absent.file, "manifest.json"} | ({short.file} if "://" not in root else set())
    assert {name for name in after if after[name] != before.get(name)} == written


@pytest.mark.parametrize("position", [5, 13, 20_000, -3])
def test_a_local_shard_that_was_damaged_before_its_manifest_came_is_written_again(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, position: int
) -> None:
    """In a length, a checksum, the pixels and the last checksum."""
    data = settings(image_size=(64, 64))
    first = prepare_source(memory_source(images), data, tmp_path, threads=2)
    (first.folder / "manifest.json").unlink()
    path = first.path(first.manifest.splits["train"].shards[1])
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)
    assert prepare_source(memory_source(images), data, tmp_path, threads=2) == first
    verify_all(first)


# --- several writers, killed writers ------------------------------------------------------------------


def test_two_writers_at_once_end_in_one_data_set(root: str, digits: Records) -> None:
    writers = [start(DIGITS, root) for _ in range(2)]
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    records = prepare_records(DIGITS, root)
    assert records.manifest == digits.manifest
    assert contents(records) == contents(digits)


@pytest.mark.slow
def test_killed_writers_leave_nothing_half_and_the_next_one_completes(root: str, digits: Records) -> None:
    """Ten kills between the first image and the manifest; what was finished stays as it was."""
    folder = f"{root}/datasets/digits/{digits.manifest.fingerprint}"
    whole = contents(digits)
    generator = random.Random(root.partition("://")[0])
    found: dict[str, Entry | None] = {}
    for shards in range(0, 20, 2):
        writer = start(DIGITS, root)
        while len(list_entries(folder)) < shards and writer.is_alive():
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.1))
        writer.kill()
        writer.join()
        after = entries(folder)
        assert after.items() >= found.items()
        for name in after.keys() - found.keys():
            assert read(f"{folder}/{name}") == whole[name]
        found = after
    assert len(found) >= 18
    records = prepare_records(DIGITS, root)
    assert records.manifest == digits.manifest
    assert contents(records) == whole
    assert entries(folder).items() >= found.items()


def test_another_writer_with_other_bytes_is_told_apart(
    images: Images, memory_source: Any, settings: Settings, root: str, nothing_is_kept: None
) -> None:
    """As another version of Pillow makes them: the first manifest stays, and the second writer says so."""
    first = prepare_source(memory_source(images), settings(), root, threads=2)
    manifest = join(first.location, "manifest.json")
    delete(manifest)
    other = first.manifest.splits["train"].shards[0].model_copy(update={"crc32c": "00000000"})
    split = first.manifest.splits["train"]
    split = split.model_copy(update={"shards": (other, *split.shards[1:])})
    changed = first.manifest.model_copy(update={"splits": first.manifest.splits | {"train": split}})

    class Slow(memory_source):  # type: ignore[misc]
        reads = 0

        def read(self, position: int) -> bytes:
            self.reads += 1
            if self.reads == len(images) + 1:  # while it checks the images
                publish(manifest, encode_manifest(changed))
            return bytes(super().read(position))

    with pytest.raises(ConflictError, match="another writer made other bytes of the same images"):
        prepare_source(Slow(images), settings(), root, threads=1)
    # The next one finds what is damaged, by that manifest, and writes it.
    assert prepare_source(memory_source(images), settings(), root, threads=1) == first
    verify_all(first)

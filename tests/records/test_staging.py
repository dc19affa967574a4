"""Records in real object stores on loopback, brought to this machine."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from optduel.components.core import DataError, SetupError, StorageError
from optduel.components.records import Records, Shard, SplitReader, stage
from optduel.components.storage import delete, publish, read
from tests.faults.proxy import Answer, Fault
from tests.servers.places import Place, PlaceOf
from tests.train.processes import wait_until

Make = Callable[[str], Records]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def records(stored: Make, place: Place) -> Records:
    return stored(place.root)


def shards_of(records: Records, *splits: str) -> list[Shard]:
    return [shard for split in splits for shard in records.manifest.splits[split].shards]


def whole_split(reader: SplitReader) -> tuple[np.ndarray, np.ndarray]:
    positions = np.arange(len(reader))
    return reader.read(positions % 4, positions // 4)


def wait_for(event: threading.Event) -> None:
    event.wait(30)


def gets(place: Place) -> int:
    """Requests for the content of shards."""
    return sum(
        request.method == "GET" and "tfrecord" in request.path and "list-type" not in request.path
        for request in place.proxy.requests
        if "/download/" in request.path or "alt=media" in request.path or place.kind == "s3"
    )


# --- what arrives -----------------------------------------------------------------------------------


def test_staged_records_are_read_as_local_ones(local_records: Records, records: Records) -> None:
    with stage(records, shards_of(records, "train", "test")) as staged:
        for split in ("train", "test"):
            expected = whole_split(SplitReader(local_records, split))
            for found, wanted in zip(whole_split(SplitReader(staged, split)), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


def test_only_the_shards_that_are_named_arrive(records: Records, staging: Path) -> None:
    shards = shards_of(records, "train")[1::2]
    with stage(records, shards) as staged:
        assert staged.wait(shards, 60)
        assert staged.waiting == 0
    found = [path for path in staging.rglob("*") if path.is_file()]
    assert sorted(path.name for path in found) == sorted(shard.file for shard in shards)
    assert {path.name: path.read_bytes() for path in found} == {
        shard.file: read(records.place(shard)) for shard in shards
    }


def test_what_is_staged_is_not_fetched_again(records: Records, place: Place) -> None:
    shards = shards_of(records, "train")
    with stage(records, shards) as staged:
        staged.wait(shards)
    before = gets(place)
    assert before >= len(shards)
    with stage(records, shards) as staged:
        staged.wait(shards)
    assert gets(place) == before


def test_a_copy_that_was_damaged_on_the_disk_is_fetched_again(records: Records, staging: Path) -> None:
    shards = shards_of(records, "train")
    with stage(records, shards) as staged:
        paths = [staged.path(shard) for shard in shards]
    whole = [path.read_bytes() for path in paths]
    flipped = bytearray(whole[1])
    flipped[len(flipped) // 2] ^= 1
    paths[1].write_bytes(flipped)
    paths[2].write_bytes(whole[2][:-1])
    paths[3].unlink()
    with stage(records, shards) as staged:
        assert [staged.path(shard).read_bytes() for shard in shards] == whole


def test_a_local_data_set_is_read_in_place(local_records: Records, staging: Path) -> None:
    with stage(local_records, shards_of(local_records, "train")) as staged:
        assert staged.path(shards_of(local_records, "train")[0]).parent == local_records.folder
        assert len(whole_split(SplitReader(staged, "train"))[1]) == 1438
    assert not staging.exists()


def test_several_processes_stage_at_once(records: Records, staging: Path) -> None:
    program = f"""
from optduel.components.records import Records, SplitReader, stage
records = Records.model_validate_json({records.canonical_json()!r})
shards = records.manifest.splits["train"].shards
with stage(records, shards) as staged:
    import zlib
    print([zlib.crc32(staged.path(shard).read_bytes()) for shard in shards])
"""
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(outputs) == 1
    assert len([path for path in staging.rglob("*") if path.is_file()]) == 4


def test_reading_starts_while_later_shards_are_on_their_way(records: Records, place: Place) -> None:
    shards = shards_of(records, "train", "validation")
    held = threading.Event()
    place.proxy.inject(
        Fault(before=lambda: wait_for(held), methods=("GET",), pattern="validation", times=100)
    )
    with stage(records, shards) as staged:
        images, _ = whole_split(SplitReader(staged, "train"))
        assert len(images) == 1438
        assert staged.waiting == 4
        assert not staged.wait(shards, 0.1)
        held.set()
        assert len(whole_split(SplitReader(staged, "validation"))[1]) == 180
        assert staged.waiting == 0


def test_what_is_under_way_is_given_up_when_it_is_closed(
    records: Records, place: Place, staging: Path
) -> None:
    place.proxy.inject(Fault(silence=20, methods=("GET",), pattern="validation", times=100))
    train, validation = shards_of(records, "train"), shards_of(records, "validation")
    with stage(records, [*train, *validation]) as staged:
        assert staged.wait(train, 60)
        wait_until(lambda: any("validation" in request.path for request in place.proxy.requests))
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    found = [path.name for path in staging.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert sorted(found) == sorted(shard.file for shard in train)


# --- what is wrong ----------------------------------------------------------------------------------


def flipped(content: bytes) -> bytes:
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


@pytest.mark.parametrize("damage", ["missing", "shortened", "flipped", "swapped"])
def test_damage_in_the_store_is_named_before_anything_is_fetched(
    records: Records, place: Place, staging: Path, damage: str
) -> None:
    first, second, third, _ = shards_of(records, "train")
    at = records.place(second)
    match damage:
        case "missing":
            delete(at)
        case "shortened":
            publish(at, read(at)[:-1])
        case "flipped":
            publish(at, flipped(read(at)))
        case "swapped":
            one, other = read(at), read(records.place(third))
            publish(at, other)
            publish(records.place(third), one)
    fetched = gets(place)
    with pytest.raises(DataError) as caught:
        stage(records, shards_of(records, "train"))
    head, *lines = str(caught.value).splitlines()
    assert head.startswith(f"{records.location}: {len(lines)} damaged shard(s); ")
    assert [line.partition(": ")[0] for line in lines] == [
        records.place(shard) for shard in ((second, third) if damage == "swapped" else (second,))
    ]
    assert gets(place) == fetched
    assert not staging.exists()
    # Whoever does not read the damaged shard is not concerned.
    with stage(records, [first]) as staged:
        assert staged.wait([first], 60)


def test_damage_that_the_store_does_not_tell_of_is_named_before_the_first_step(
    stored: Make, place_of: PlaceOf
) -> None:
    """An object that another tool wrote to S3 without a CRC-32C."""
    import botocore.config
    import botocore.session

    place = place_of("s3")
    records = stored(place.root)
    shard = shards_of(records, "train")[1]
    bucket, _, key = records.place(shard).removeprefix("s3://").partition("/")
    content = flipped(read(records.place(shard)))
    config = botocore.config.Config(
        s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
    )
    client = botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=place.proxy.url, config=config
    )
    client.put_object(Bucket=bucket, Key=key, Body=content)
    client.close()
    with pytest.raises(StorageError, match=f"{shard.file}: .*not the expected .*\\(2 attempts"):
        stage(records, shards_of(records, "train"))


def test_a_shard_that_is_damaged_on_the_way_is_fetched_again(records: Records, place: Place) -> None:
    fault = place.proxy.inject(Fault(flip=True, methods=("GET",), pattern="train-00002"))
    shards = shards_of(records, "train")
    with stage(records, shards) as staged:
        assert [staged.path(shard).read_bytes() for shard in shards] == [
            read(records.place(shard)) for shard in shards
        ]
    assert fault.happened == 1


def test_an_error_in_the_background_is_raised_at_the_next_read(
    records: Records, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden = Answer(403, {}, b"")
    released = threading.Event()
    place.proxy.inject(
        Fault(
            before=lambda: wait_for(released),
            answer=forbidden,
            methods=("GET",),
            pattern="validation-00001",
            times=100,
        )
    )
    train, validation = shards_of(records, "train"), shards_of(records, "validation")
    with stage(records, [*train, *validation]) as staged:
        reader = SplitReader(staged, "train")
        whole_split(reader)
        released.set()
        deadline = time.monotonic() + 30
        with pytest.raises(StorageError, match="validation-00001.*HTTP 403"):  # noqa: PT012
            while time.monotonic() < deadline:
                whole_split(reader)


# --- room -------------------------------------------------------------------------------------------


def test_copies_beyond_the_budget_are_refused_before_the_first_byte(
    records: Records, place: Place, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = shards_of(records, "train")
    needed = sum(shard.bytes for shard in shards)
    monkeypatch.setenv("OPTDUEL_STAGING_BYTES", str(needed - 1))
    fetched = gets(place)
    with pytest.raises(StorageError) as caught:
        stage(records, shards)
    message = str(caught.value)
    folder = staging / f"optduel-staging-{os.getuid()}"
    assert message.startswith(f"{folder}: copies of {records.location} need {needed:,} bytes, but")
    assert f"{needed - 1:,} are left of a budget of {needed - 1:,}; raise OPTDUEL_STAGING_BYTES" in message
    assert gets(place) == fetched
    monkeypatch.setenv("OPTDUEL_STAGING_BYTES", str(needed))
    with stage(records, shards) as staged:
        assert staged.wait(shards, 60)
    with stage(records, shards) as staged:  # what is there needs no more room
        assert staged.wait(shards, 60)
    with pytest.raises(StorageError, match="copies of .* need .* bytes, but 0 are left"):
        stage(records, shards_of(records, "test"))


@pytest.mark.parametrize("budget", ["", "1e9", "-1", "much"])
def test_a_budget_that_is_no_number_is_refused(
    records: Records, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    monkeypatch.setenv("OPTDUEL_STAGING_BYTES", budget)
    with pytest.raises(SetupError, match="OPTDUEL_STAGING_BYTES = .*: must be a number of bytes"):
        stage(records, shards_of(records, "train"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_without_room_is_named_with_what_is_needed(
    records: Records, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_STAGING", str(small_disk))
    needed = sum(shard.bytes for shard in shards_of(records, "train"))
    with pytest.raises(StorageError, match=rf"need {needed:,} bytes, but 65,536 are free; free some"):
        stage(records, shards_of(records, "train"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_that_another_user_made_is_not_used(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_STAGING", str(tmp_path))
    folder = tmp_path / f"optduel-staging-{os.getuid()}"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(StorageError, match="belongs to another user; name a folder in OPTDUEL_STAGING"):
        stage(records, shards_of(records, "train"))

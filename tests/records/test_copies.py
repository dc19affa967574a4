"""The folder of copies: private, on a disk, cleared of what nobody uses."""

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.core import StorageError
from optduel.components.records import Records, hold, make_room, stage, staging_folder
from optduel.components.records import copies as copies_module
from optduel.components.storage import Download, download, publish
from tests.servers.places import Place

NAME = f"optduel-staging-{os.getuid()}"


def copies(staging: Path, kind: str, name: str, size: int, days: float) -> Path:
    """A folder of copies that was last used so many days ago."""
    folder = staging / NAME / kind / name
    folder.mkdir(parents=True)
    (folder / "train-0.tfrecord").write_bytes(bytes(size))
    used = time.time() - days * 86_400
    os.utime(folder, (used, used))
    return folder


# --- whose it is -------------------------------------------------------------------------------------


def test_the_folder_is_private_whatever_the_place_allows(staging: Path) -> None:
    staging.mkdir()
    staging.chmod(0o777)
    assert staging_folder() == staging / NAME
    assert stat.S_IMODE((staging / NAME).stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(staging: Path, mode: int) -> None:
    (staging / NAME).mkdir(parents=True)
    (staging / NAME).chmod(mode)
    with pytest.raises(StorageError, match=f"{NAME}: others may write to it; run chmod 700 "):
        staging_folder()


@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_a_link_that_somebody_has_put_there_is_not_followed(staging: Path, tmp_path: Path, kind: str) -> None:
    staging.mkdir()
    (tmp_path / "elsewhere").mkdir()
    match kind:
        case "link":
            (staging / NAME).symlink_to(tmp_path / "elsewhere")
        case "broken link":
            (staging / NAME).symlink_to(tmp_path / "nothing")
        case "file":
            (staging / NAME).touch()
    with pytest.raises(StorageError, match=f"{NAME}: is a link or a file; remove it, or name a folder in"):
        staging_folder()


def test_it_lies_on_a_disk_unless_another_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPTDUEL_STAGING", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert Path("/var/tmp") == copies_module._ON_DISK
    monkeypatch.setattr(copies_module, "_ON_DISK", tmp_path / "disk")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "memory"))
    assert staging_folder() == tmp_path / "memory" / NAME  # there is no such disk
    (tmp_path / "disk").mkdir()
    assert staging_folder() == tmp_path / "disk" / NAME
    monkeypatch.setenv("TMPDIR", "set")
    assert staging_folder() == tmp_path / "memory" / NAME
    monkeypatch.setenv("OPTDUEL_STAGING", str(tmp_path / "named"))
    assert staging_folder() == tmp_path / "named" / NAME


# --- what stays --------------------------------------------------------------------------------------


def test_copies_that_nobody_has_used_for_a_week_are_removed(
    staging: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = [copies(staging, kind, "old", 10, days=8) for kind in ("records", "tfds")]
    recent = copies(staging, "records", "recent", 10, days=6)
    make_room(0, "gs://bucket/x")
    assert [folder.exists() for folder in (*old, recent)] == [False, False, True]
    assert not list((staging / NAME).rglob(".removed-*"))
    assert f"removed copies that nobody uses: {old[0]}" in capsys.readouterr().err


def test_for_room_the_least_recently_used_go_first(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STAGING_BYTES", "1000")
    older = copies(staging, "records", "older", 400, days=3)
    newer = copies(staging, "tfds", "newer", 400, days=2)
    make_room(200, "gs://bucket/x")
    assert older.exists()
    make_room(201, "gs://bucket/x")
    assert [older.exists(), newer.exists()] == [False, True]
    with pytest.raises(StorageError, match="copies of gs://bucket/x need 1,001 bytes, but 1,000 are left"):
        make_room(1001, "gs://bucket/x")


def test_copies_in_use_stay(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In use by another process, until it ends, however it ends."""
    folder = copies(staging, "records", "used", 400, days=30)
    program = f"""
import sys
from pathlib import Path
from optduel.components.records import hold
hold(Path({str(folder)!r}))
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "held\n"
        long_ago = time.time() - 30 * 86_400
        os.utime(folder, (long_ago, long_ago))
        make_room(0, "gs://bucket/x")
        assert folder.exists()
        user.kill()
    make_room(0, "gs://bucket/x")
    assert not folder.exists()


def test_holding_marks_the_copies_as_used(staging: Path) -> None:
    folder = copies(staging, "records", "old", 10, days=30)
    os.close(hold(folder))
    make_room(0, "gs://bucket/x")
    assert folder.exists()


def test_copies_are_let_go_when_they_are_closed(
    stored: Callable[[str], Records], place: Place, staging: Path
) -> None:
    records = stored(place.root)
    shards = records.manifest.splits["train"].shards
    with stage(records, shards) as staged:
        folder = staged.path(shards[0]).parent
        os.utime(folder, (0, 0))
        make_room(0, "x")
        assert folder.exists()
    os.utime(folder, (0, 0))
    make_room(0, "x")
    assert not folder.exists()


# --- progress ----------------------------------------------------------------------------------------


def test_bytes_are_counted_as_they_arrive(place: Place, tmp_path: Path) -> None:
    """Not when the object is whole: one of three megabytes is told in parts."""
    content = os.urandom(3 * 2**20)
    publish(f"{place.root}/large", content)
    received: list[int] = []
    download([Download(f"{place.root}/large", tmp_path / "large")], received=received.append)
    assert sum(received) == len(content)
    assert max(received) <= 2**20


def test_all_that_arrives_or_is_looked_through_counts(stored: Callable[[str], Records], place: Place) -> None:
    records = stored(place.root)
    shards = records.manifest.splits["train"].shards
    for _ in range(2):  # what is there already is looked through
        with stage(records, shards) as staged:
            assert staged.wait(shards, 60)
            assert staged.arrived_bytes == sum(shard.bytes for shard in shards)


def test_a_local_data_set_tells_that_it_is_looked_through(
    local_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optduel.components.records.staging.PROGRESS_SECONDS", 0.0)
    reports: list[int] = []
    shards = local_records.manifest.splits["train"].shards
    with stage(local_records, shards, lambda: reports.append(1)):
        assert 1 <= len(reports) <= len(shards)

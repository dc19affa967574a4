"""Full disks, killed processes and bombs: one message or nothing, and earlier data sets as they were."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.prepare.sources import Folder
from optduel.components.records import Records
from optduel.components.records.integrity import verify_shards
from optduel.components.settings import Data, FolderSource

Settings = Callable[..., Data]
Contents = Callable[[Records], dict[str, bytes]]


def start_prepare(data: Data, root: Path, before: str = "", after: str = "") -> subprocess.Popen[str]:
    """Starts `prepare_records` in a process of its own, which prints the error's type and message."""
    program = f"""
import resource
from optduel.components.settings.authoring import decode
from optduel.components.core.errors import OptduelError
from optduel.components.settings.experiment import Data
from optduel.components.prepare.prepare import prepare_records
{before}
try:
    prepare_records(decode(Data, {data.canonical_json()!r}, "data"), {str(root)!r})
except OptduelError as error:
    print(type(error).__name__, error)
{after}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def assert_untouched(records: Records, contents: dict[str, bytes], contents_of: Contents) -> None:
    assert contents_of(records) == contents
    verify_shards(records, [shard for split in records.manifest.splits.values() for shard in split.shards])


def test_a_killed_writer_leaves_no_manifest_and_the_next_one_completes(
    many_images: FolderSource, settings: Settings, contents_of: Contents, tmp_path: Path
) -> None:
    data = settings(source=many_images, image_size=(160, 160), shards=64)
    root = tmp_path / "root"
    stalls = """
import itertools, time
from optduel.components.prepare import decoder
records, encode = itertools.count(1), decoder.encode_pixels
def stalling_encode(image, encoding):
    if next(records) > 60:  # of 120
        time.sleep(600)
    return encode(image, encoding)
decoder.encode_pixels = stalling_encode
"""
    with start_prepare(data, root, before=stalls) as writer:
        deadline = time.monotonic() + 60
        while len(list(root.rglob(".train-*.part"))) < 20 and time.monotonic() < deadline:
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert list(root.rglob(".train-*.part"))
    assert not list(root.rglob("train-*.tfrecord"))  # they wait for the last image
    assert not list(root.rglob("manifest.json"))

    records = prepare_records(data, str(root))
    undisturbed = prepare_records(data, str(tmp_path / "other"))
    assert records.manifest == undisturbed.manifest
    for name, content in contents_of(undisturbed).items():
        assert (records.folder / name).read_bytes() == content


def test_parts_of_killed_writers_are_removed_later(
    many_images: FolderSource, settings: Settings, tmp_path: Path
) -> None:
    data = settings(source=many_images)
    records = prepare_records(data, str(tmp_path / "root"))
    (records.folder / "manifest.json").unlink()
    old, young = (records.folder / f".train-00000-of-00004.tfrecord.{name}" for name in ("old", "young"))
    for part in (old, young):
        part.write_bytes(b"x")
    yesterday = time.time() - 86_400
    os.utime(old, (yesterday, yesterday))
    prepare_records(data, str(tmp_path / "root"))
    assert not old.exists()
    assert young.exists()  # its writer may still be at work


def test_a_file_that_cannot_grow_is_one_storage_error(
    many_images: FolderSource, settings: Settings, contents_of: Contents, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    earlier = prepare_records(settings(source=many_images), str(root))
    contents = contents_of(earlier)
    data = settings(source=many_images, image_size=(160, 160))
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    with start_prepare(data, root, before=limit) as writer:
        output, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    kind, message = output.strip().split(" ", 1)
    assert kind == "StorageError"
    assert message.startswith(str(root / "datasets" / "many"))
    assert "File too large" in message
    assert "\n" not in message
    assert len(list(root.rglob("manifest.json"))) == 1
    assert not list(root.rglob(".*"))
    assert_untouched(earlier, contents, contents_of)


def test_a_disk_that_is_too_small_is_told_before_an_image_is_decoded(
    many_images: FolderSource, settings: Settings, contents_of: Contents, small_disk: Path
) -> None:
    earlier = prepare_records(settings(source=many_images), str(small_disk))
    contents = contents_of(earlier)
    (Path(many_images.path) / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(StorageError, match=r"datasets/many/\w+: the records take 9,\d+,\d+ bytes, of"):
        prepare_records(settings(source=many_images, image_size=(160, 160)), str(small_disk))
    assert_untouched(earlier, contents, contents_of)


def test_a_full_disk_is_one_storage_error(
    many_images: FolderSource,
    settings: Settings,
    contents_of: Contents,
    small_disk: Path,
    nothing_is_kept: None,
) -> None:
    earlier = prepare_records(settings(source=many_images), str(small_disk))
    contents = contents_of(earlier)
    source, filler = Folder(many_images), small_disk / "filler"

    class Filling(Folder):
        """Somebody else fills the disk while the first images are read again, to be written."""

        def read(self, position: int) -> bytes:
            if not filler.exists() and next(reads) > len(source.examples):
                filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**19))
            return super().read(position)

    reads = itertools.count()
    data = settings(source=many_images, image_size=(64, 64))
    with pytest.raises(StorageError) as caught:
        prepare_source(Filling(many_images), data, small_disk, threads=1)
    assert str(caught.value).startswith(str(small_disk / "datasets" / "many"))
    assert "No space left on device; free some space" in str(caught.value)
    filler.unlink()
    assert len(list(small_disk.rglob("manifest.json"))) == 1
    assert not list(small_disk.rglob(".*"))
    assert_untouched(earlier, contents, contents_of)


def test_a_place_that_cannot_be_written_is_one_storage_error(
    images: Any, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file.*Not a directory"):
        prepare_source(memory_source(images), settings(), tmp_path / "file", threads=2)


def test_bad_images_leave_earlier_data_sets_as_they_were(
    image_folder: Path, settings: Settings, contents_of: Contents, tmp_path: Path
) -> None:
    data = settings(source=FolderSource(path=str(image_folder)))
    earlier = prepare_records(data, str(tmp_path / "root"))
    contents = contents_of(earlier)
    (image_folder / "daisy" / "0.jpg").write_bytes(b"\xff\xd8\xff damaged")
    with pytest.raises(DataError, match="daisy/0.jpg: is damaged or cut off"):
        prepare_records(data, str(tmp_path / "root"))
    assert [path.parent for path in (tmp_path / "root").rglob("manifest.json")] == [earlier.folder]
    assert_untouched(earlier, contents, contents_of)


def test_memory_does_not_grow_with_the_data_set(
    picture: Callable[..., Image.Image], settings: Settings, tmp_path: Path
) -> None:
    """Records of 94 MB are written with less than 40 MB: a few images and the buffers of files."""
    folder = tmp_path / "flowers"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for index in range(60):
            picture(index + 1000 * (label == "b")).save(folder / label / f"{index}.png")
    data = settings(source=FolderSource(path=str(folder)), image_size=(512, 512))
    peak = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    with start_prepare(data, tmp_path / "root", f"at_start = {peak}", f"print({peak} - at_start)") as writer:
        output, _ = writer.communicate(timeout=120)
    (manifest,) = (tmp_path / "root").rglob("manifest.json")
    assert sum(path.stat().st_size for path in manifest.parent.glob("*.tfrecord")) > 90 * 2**20
    assert int(output) < 40 * 1024  # kilobytes


def test_the_other_shards_are_given_up_when_one_fails(
    images: list[tuple[str, int, bytes, bool]],
    memory_source: Any,
    settings: Settings,
    tmp_path: Path,
    nothing_is_kept: None,
) -> None:
    """One shard's thread meets the error, the other is stopped long before the end of its 12 images."""
    checked = len(images)  # each image is read once to hash it

    class Changing(memory_source):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.reads = itertools.count(1)
            self.last = 0
            self.failing = threading.Event()

        def read(self, position: int) -> bytes:
            number = self.last = next(self.reads)
            if number == checked + 2:
                self.failing.set()
                return b"something else"
            if number > checked:
                self.failing.wait(10)
                time.sleep(0.1)
            return bytes(super().read(position))

    source = Changing(images)
    with pytest.raises(DataError, match="changed while it was read"):
        prepare_source(source, settings(shards=2), tmp_path, threads=2)
    assert source.last < checked + 12

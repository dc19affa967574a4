"""Processes decode images as threads do, each image gets its own answer, and a lost process is told of."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.core import DataError, LaunchError, OutOfMemoryError, StorageError
from optduel.components.prepare import decoders as module
from optduel.components.prepare import prepare as stage
from optduel.components.prepare.decoder import Extract, RecordFormat
from optduel.components.prepare.decoders import Decoders, useful_processes
from optduel.components.prepare.image import UnusableImageError
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.prepare.room import Room
from optduel.components.records import Records
from optduel.components.settings import Data, FolderSource

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]
Settings = Callable[..., Data]
Contents = Callable[[Records], dict[str, bytes]]
Images = Sequence[tuple[str, int, bytes, bool]]


def children(process: int | None = None) -> set[int]:
    """The processes that a process has started, by their ids."""
    tasks = Path(f"/proc/{process or os.getpid()}/task")
    return {int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()}


def is_gone(process: int) -> bool:
    """Whether a process has ended; one that nobody has waited for has, too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def varied(picture: Picture, encode: Encode) -> list[bytes]:
    """Images that show all that there is to tell, and some that cannot be decoded."""
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    frames = [picture(seed) for seed in (1, 2)]
    jpeg = encode(picture(3, 400, 300), "JPEG")
    return [
        jpeg,
        encode(picture(4), "JPEG", exif=exif),
        encode(picture(5, mode="RGBA"), "PNG"),
        encode(deep, "PNG"),
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encode(picture(6), "AVIF"),
        encode(Image.new("RGB", (64, 64), "red"), "WEBP"),
        jpeg[: len(jpeg) // 2],
        b"no image",
    ]


def answers(
    decoders: Decoders, images: Sequence[bytes], name: str = "image", is_written: bool = True
) -> list[Extract | str]:
    """What decoders tell of images; of those that cannot be used, why."""
    found = decoders.decode([(f"{name}-{number}", each) for number, each in enumerate(images)], is_written)
    return [str(each) if isinstance(each, UnusableImageError) else each for each in found]


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("is_written", [True, False])
def test_a_process_answers_as_a_thread_does(
    varied: list[bytes], settings: Settings, encoding: str, is_written: bool
) -> None:
    data = settings(image_size=(48, 40), encoding=encoding)
    with Decoders(data, Room(2**30), 0) as near, Decoders(data, Room(2**30), 1) as far:
        expected = answers(near, varied, is_written=is_written)
        assert answers(far, varied, is_written=is_written) == expected
    shown = [answer for answer in expected if isinstance(answer, Extract)]
    assert [len(shown), {bool(each.content) for each in shown}] == [7, {is_written}]
    assert {each.peak for each in shown} == {None, 255}
    assert {each.has_more for each in shown} == {True, False}
    assert {each.small is None for each in shown} == {True, False}
    assert (30, 40) in {each.size for each in shown}  # it was turned


@pytest.mark.parametrize("most", [1, 3, 16])
@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_the_size_of_messages_changes_nothing(
    varied: list[bytes], settings: Settings, monkeypatch: pytest.MonkeyPatch, most: int, size: int
) -> None:
    """Contents of 100 bytes and less do not fit into the shared memory, nor do all of those of 5760."""
    data = settings(image_size=(48, 40))
    monkeypatch.setattr(module, "_MESSAGE_IMAGES", most)
    monkeypatch.setattr(module, "_MESSAGE_BYTES", size)
    with Decoders(data, Room(2**30), 0) as near, Decoders(data, Room(2**30), 1) as far:
        assert answers(far, varied) == answers(near, varied)


def test_contents_that_are_larger_than_expected_arrive(
    encode: Encode, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JPEG files of 4 x 4 pixels take more bytes than the pixels, so that few fit into the shared memory."""
    images = [encode(Image.new("L", (4, 4), 40 * grey), "PNG") for grey in range(6)]
    data = settings(image_size=(4, 4), encoding="jpeg")
    monkeypatch.setattr(module, "_MESSAGE_BYTES", 500)
    with Decoders(data, Room(2**20), 0) as near, Decoders(data, Room(2**20), 1) as far:
        expected = answers(near, images)
        assert answers(far, images) == expected
    assert min(len(extract.content) for extract in expected if isinstance(extract, Extract)) > 500


@pytest.mark.parametrize(
    ("side", "size", "taken"), [(4, 200, 8), (4, 3000, 4), (4, 10**5, 1), (40, 200, 2), (80, 200, 1)]
)
def test_few_images_are_in_memory_at_a_time(
    encode: Encode,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    side: int,
    size: int,
    taken: int,
) -> None:
    """Messages are bounded by images, by their bytes, and by those of the records."""
    monkeypatch.setattr(module, "_MESSAGE_IMAGES", 8)
    monkeypatch.setattr(module, "_MESSAGE_BYTES", 10_000)
    encoded = encode(Image.new("RGB", (4, 4)), "BMP")
    encoded += bytes(size - len(encoded))
    images = iter([("image", encoded)] * 20)
    with Decoders(settings(image_size=(side, side)), Room(2**20), 1) as decoders:
        next(decoders.decode(images, True))
    assert len(list(images)) == 20 - taken


def test_every_thread_gets_the_answers_to_its_images(encode: Encode, settings: Settings) -> None:
    colours = [(number, 255 - number, 7 * number % 256) for number in range(200)]
    images = [encode(Image.new("RGB", (5, 4), colour), "PNG") for colour in colours]
    with (
        Decoders(settings(image_size=(4, 4)), Room(2**20), 3) as decoders,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        some = [images[start : start + 5] for start in range(0, 200, 5)]
        found = pool.map(lambda encoded: answers(decoders, encoded), some)
    contents = [each.content for several in found for each in several if isinstance(each, Extract)]
    assert contents == [bytes(colour) * 16 for colour in colours]


@pytest.mark.parametrize("choice", ["tell", "move"])
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_records_and_manifest_do_not_depend_on_processes(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    choice: str,
    encoding: str,
) -> None:
    cut = ("cut", 0, images[0][2][:100], False)
    data = settings(near_duplicates=choice, image_size=(32, 32), encoding=encoding, skip_corrupt=True)
    source = memory_source([*images, cut])
    before = children()
    expected = prepare_source(source, data, tmp_path / "threads", threads=2)
    assert [entry.image for entry in expected.manifest.skipped] == ["cut"]
    found = prepare_source(source, data, tmp_path / "processes", threads=3, processes=2)
    assert contents_of(found) == contents_of(expected)
    assert children() == before


def test_many_images_are_decoded_in_processes(
    many_images: FolderSource, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Watched(Decoders):
        def __init__(self, data: Data, room: Room, processes: int) -> None:
            started.append(processes)
            super().__init__(data, room, processes)

    monkeypatch.setattr(stage, "Decoders", Watched)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    data = settings(source=many_images)
    few = prepare_records(data, str(tmp_path / "few"))
    monkeypatch.setattr(module, "_WORTH_PROCESSES", 100)  # of 120
    many = prepare_records(data, str(tmp_path / "many"))
    assert many.manifest == few.manifest
    assert started == [0, 2]


def test_one_core_and_few_images_need_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    assert [useful_processes(images) for images in (0, 1_999, 2_000, 10**6)] == [0, 0, 8, 8]
    for cores, processes in ((1, 0), (2, 2), (64, 16)):
        monkeypatch.setattr(module, "usable_cores", lambda cores=cores: cores)
        assert useful_processes(10**6) == processes


# --- memory -----------------------------------------------------------------------------------------


class NotedRoom(Room):
    """Notes what was taken."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.taken: list[int] = []

    def taking(self, needed: int) -> Any:
        self.taken.append(needed)
        return super().taking(needed)


def test_a_large_image_asks_for_room(
    encode: Encode, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LENT_BYTES", 4 * 100 * 100)
    room = NotedRoom(10**6)
    images = [encode(Image.new("RGB", (width, 100)), "PNG") for width in (100, 101, 10, 102)]
    with Decoders(settings(), room, 1) as decoders:
        answers(decoders, images)
        assert room.taken == [40_000, 40_400, 40_800]  # one message
        with room.taking(10**6):  # all has been given back
            pass


def test_after_a_refusal_no_image_gets_the_answer_to_another(
    encode: Encode, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LENT_BYTES", 1000)
    red, blue = (encode(Image.new("RGB", (side, side), "red"), "PNG") for side in (100, 10))
    with Decoders(settings(), Room(2000), 1) as decoders:
        for encoded in (red, blue):
            with pytest.raises(OutOfMemoryError, match="takes 40,000 bytes of memory, of which 2,000 are"):
                answers(decoders, [encoded])


# --- processes that end -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        (signal.SIGKILL, OutOfMemoryError, "x-0: the process that decoded it was killed, as the kernel"),
        (signal.SIGSEGV, DataError, "x-0: the process that decoded it ended with SIGSEGV; remove the image"),
    ],
)
def test_a_lost_process_is_told(
    encode: Encode, settings: Settings, how: signal.Signals, kind: type[Exception], message: str
) -> None:
    before = children()
    images = [encode(Image.new("RGB", (4, 4)), "PNG")] * 3
    with Decoders(settings(), Room(2**20), 1) as decoders:
        assert len(answers(decoders, images)) == 3
        (child,) = children() - before
        os.kill(child, how)
        with pytest.raises(kind, match=message):
            answers(decoders, images, "x")


def test_a_process_that_crashes_is_told_with_the_image(
    encode: Encode, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for memory for the third image when it is ended."""
    before = children()
    images = [encode(Image.new("RGB", (side, side)), "PNG") for side in (2, 3, 50)]

    class Ending(Room):
        def taking(self, needed: int) -> Any:
            if needed == 4 * 50 * 50:
                (child,) = children() - before
                os.kill(child, signal.SIGABRT)
            return super().taking(needed)

    monkeypatch.setattr(module, "_LENT_BYTES", 100)
    with (
        Decoders(settings(), Ending(2**20), 1) as decoders,
        pytest.raises(DataError, match="x-2: the process that decoded it ended with SIGABRT"),
    ):
        answers(decoders, images, "x")


def test_a_defect_in_a_process_keeps_its_traceback(
    settings: Settings, capfd: pytest.CaptureFixture[str], encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RecordFormat", lambda *_: RecordFormat(-1, 4, 3, "raw"))
    with (
        Decoders(settings(), Room(2**20), 1) as decoders,
        pytest.raises(RuntimeError, match="image-0: the process that decoded it ended with exit code 1"),
    ):
        answers(decoders, [encode(Image.new("RGB", (5, 5)), "PNG")])
    assert "Traceback" in capfd.readouterr().err


def test_a_process_that_cannot_be_started_is_a_launch_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(LaunchError, match="/nowhere/python cannot be run"):
        Decoders(settings(), Room(2**20), 2)


def test_a_full_disk_is_told_before_a_process_starts(
    settings: Settings, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_STAGING", str(small_disk))
    before = children()
    with pytest.raises(StorageError, match=f"{small_disk}.*No space left on device"):
        Decoders(settings(), Room(2**20), 1)
    assert children() == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(how: signal.Signals) -> None:
    program = """
import time
from optduel.components.prepare.decoders import Decoders
from optduel.components.prepare.room import Room
from optduel.components.settings import Data, DigitsSource
with Decoders(Data(source=DigitsSource(), image_size=(8, 8)), Room(2**20), 2):
    print("started", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, process_group=0) as starter:
        assert starter.stdout
        assert starter.stdout.readline() == "started\n"
        started = children(starter.pid)
        assert len(started) == 2
        if how == signal.SIGINT:  # to the whole group, as a keyboard sends it
            os.killpg(starter.pid, how)
        else:
            starter.send_signal(how)
        _, printed = starter.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while not all(map(is_gone, started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(map(is_gone, started))
    assert printed.count("Traceback") == (how == signal.SIGINT)  # its own


def test_large_images_and_contents_arrive(settings: Settings, encode: Encode) -> None:
    """Larger than the buffers of the connection, and than the shared memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1400, 3), dtype=np.uint8)
    encoded = encode(Image.fromarray(pixels), "PNG")
    with Decoders(settings(image_size=(1500, 1400)), Room(2**30), 1) as decoders:
        (found,) = answers(decoders, [encoded])
    assert isinstance(found, Extract)
    assert found.content == pixels.tobytes()

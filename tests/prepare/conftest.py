"""Small pictures, folders of them, and a source that holds its images in memory."""

import io
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.prepare.sources.source import Example
from optduel.components.records import Records, Skipped, SplitReader
from optduel.components.settings import Data, FolderSource

CLASSES = ("daisy", "roses", "tulips")


def make_picture(seed: int, width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """Smooth colours that differ from seed to seed, so that JPEG keeps them roughly."""
    patches = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BILINEAR).convert(mode)


def encode_picture(image: Image.Image, image_format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()


def fill_folder(folder: Path, per_class: int = 8, classes: Sequence[str] = CLASSES) -> Path:
    """Class folders with JPEG, PNG and WebP files of several sizes."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            picture = make_picture(1000 * label + index, width=24 + index % 3 * 9, height=20 + label)
            image_format, suffix = (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"))[index % 3]
            (folder / name / f"{index}.{suffix}").write_bytes(encode_picture(picture, image_format))
    return folder


class MemorySource:
    """A source of given images: (name, label, encoded image, whether it is of a declared test split)."""

    name = "memory"
    description = "images in memory"
    problems: Sequence[Skipped] = ()

    def __init__(
        self, images: Sequence[tuple[str, int, bytes, bool]], classes: Sequence[str] = CLASSES
    ) -> None:
        self.classes = tuple(classes)
        self.examples = [
            Example(name, label, "test" if is_test else None) for name, label, _, is_test in images
        ]
        self.encoded = [encoded for _, _, encoded, _ in images]

    def read(self, position: int) -> bytes:
        return self.encoded[position]


def shard_bytes(records: Records) -> dict[str, bytes]:
    """Every file of a data set by name, the manifest included."""
    return {path.name: path.read_bytes() for path in sorted(records.folder.iterdir())}


def read_whole_split(records: Records, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All examples of a split in order: example p is record p // S of shard p % S."""
    reader = SplitReader(records, split)
    shards = len(reader.shard_sizes)
    examples = np.arange(len(reader))
    return reader.read(examples % shards, examples // shards)


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    return make_picture


@pytest.fixture
def encode() -> Callable[..., bytes]:
    return encode_picture


@pytest.fixture
def memory_source() -> type[MemorySource]:
    return MemorySource


@pytest.fixture
def contents_of() -> Callable[[Records], dict[str, bytes]]:
    return shard_bytes


@pytest.fixture
def read_split() -> Callable[[Records, str], tuple[np.ndarray, np.ndarray]]:
    return read_whole_split


@pytest.fixture
def images() -> list[tuple[str, int, bytes, bool]]:
    """Ten PNG images of each of three classes."""
    return [
        (f"{name}-{index}", label, encode_picture(make_picture(100 * label + index), "PNG"), False)
        for label, name in enumerate(CLASSES)
        for index in range(10)
    ]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Eight readable images of each of three classes."""
    return fill_folder(tmp_path / "My Flowers")


@pytest.fixture
def settings() -> Callable[..., Data]:
    """A data section for small images; any field can be given."""

    def make(**fields: Any) -> Data:
        fields = {"source": FolderSource(path="unused"), "image_size": (12, 16), "shards": 4} | fields
        return Data(**fields)

    return make


@pytest.fixture
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for what was read, so that every image is read again when it is decoded."""
    monkeypatch.setattr("optduel.components.prepare.reading.usable_memory", lambda: 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def many_images(tmp_path: Path, picture: Callable[..., Image.Image]) -> FolderSource:
    """Two classes of 60 images; as records of 160 x 160 pixels they take 9 MB."""
    folder = tmp_path / "many"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for index in range(60):
            picture(index + 1000 * (label == "b")).save(folder / label / f"{index}.png")
    return FolderSource(path=str(folder))

"""The data of the benchmarks, prepared once: records, arrays, TensorFlow Datasets' files, a folder of photos.

Preparing runs as a contestant of its own, so that the process that measures holds no TensorFlow.
"""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from optduel.components.core import exit_on_error
from optduel.components.prepare.prepare import prepare_documents
from optduel.components.prepare.sources.archives import Archive
from optduel.components.records import SplitReader, load_records
from optduel.components.settings import Data
from optduel.pipeline.cli.shipped import load_experiment

CLASSES = ("dandelion", "daisy", "tulips", "sunflowers", "roses")
MADE_UP_PER_CLASS = 32


@dataclass(frozen=True)
class Workload:
    """Where everything is.

    Attributes:
        root: the folder of all of it.
        archive: flower_photos.tgz; None for tiny made-up images.
        image_size: height and width in pixels.
    """

    root: str
    archive: str | None
    image_size: tuple[int, int]

    def records(self, name: str) -> str:
        """The Records document of "tutorial", "jpeg", "digits", "short" (20 batches) or "small" (96 px)."""
        return str(Path(self.root) / f"{name}-records.json")

    def arrays(self, name: str) -> str:
        """The folder of NumPy arrays with the same images and labels."""
        return str(Path(self.root) / f"{name}-arrays")

    @property
    def tfds(self) -> str:
        """The folder in which TensorFlow Datasets keeps tf_flowers."""
        return str(Path(self.root) / "tfds-published")

    @property
    def photos(self) -> str:
        """The folder with a sub-folder of photos for each class."""
        return str(Path(self.root) / "flower_photos")

    @property
    def arguments(self) -> dict[str, Any]:
        """As JSON values, for `run`."""
        return asdict(self)


def run(
    seed: int, folder: Path, root: str, archive: str | None, image_size: Sequence[int], needs: Sequence[str]
) -> dict[str, Any]:
    """Prepares what is named in `needs`, keys of the table below, unless it is there."""
    height, width = image_size
    workload = Workload(root, archive, (height, width))
    Path(root).mkdir(parents=True, exist_ok=True)
    source = Path(archive) if archive else _made_up_archive(Path(root))
    with exit_on_error("prepare"):
        for need in needs:
            kind, _, name = need.rpartition(" ")
            match kind:
                case "records":
                    _prepare_records(workload, name, source)
                case "arrays":
                    _prepare_records(workload, name, source)
                    _save_arrays(workload, name)
                case "published":
                    _prepare_tfds(Path(workload.tfds), source)
                case "extracted":
                    _extract(Path(workload.photos), source)
                case _:
                    raise ValueError(f"{need}: nobody prepares this")
    return {}


def _data(workload: Workload, name: str, archive: Path) -> Data:
    if name == "digits":
        return load_experiment("digits").data
    height, width = (96, 96) if name == "small" and workload.archive else workload.image_size
    assignments = [f"data.image_size=[{height}, {width}]"]
    if name == "jpeg":
        assignments.append("data.encoding=jpeg")
    if workload.archive is None:
        # Spares a test the seconds that TensorFlow Datasets takes to import.
        _extract(Path(workload.photos), archive)
        assignments.append(f"data.source={{kind: folder, path: '{workload.photos}'}}")
    else:
        assignments.append(f"data.source.archive={archive}")
        if name in ("short", "small"):
            assignments.append('data.source.split="train[:22%]"')
    return load_experiment("tutorial", assignments).data


def _prepare_records(workload: Workload, name: str, archive: Path) -> None:
    data = _data(workload, name, archive).canonical_json()
    outputs = [Path(workload.root) / f"{name}-{part}" for part in ("card.html", "counts.json")]
    prepare_documents(data, "[]", workload.root, Path(workload.records(name)), *outputs)


def _save_arrays(workload: Workload, name: str) -> None:
    folder = Path(workload.arrays(name))
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        reader = SplitReader(load_records(Path(workload.records(name))), split)
        shard_count = len(reader.shard_sizes)
        positions = np.arange(len(reader))
        images, labels = reader.read(positions % shard_count, positions // shard_count)
        np.save(folder / f"{split}-images.npy", images)
        np.save(folder / f"{split}-labels.npy", labels)


def _prepare_tfds(folder: Path, archive: Path) -> None:
    """As `tfds.load` leaves it after its download: in TFRecord files, the default."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("tf_flowers", data_dir=folder)
    if Path(builder.data_dir).exists():
        return
    Archive(str(archive), tfds.builder_cls("tf_flowers")).place(folder / "downloads")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_dir=folder / "downloads", download_config=config)


def _extract(folder: Path, archive: Path) -> None:
    if folder.exists():
        return
    # Not by extractall: its filter against hostile names came with 3.11.4, and Debian 12 has 3.11.2.
    with tarfile.open(archive) as photos:
        for member in photos:
            if not member.isfile() or ".." in Path(member.name).parts:
                continue
            place = folder.parent / member.name.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(photos.extractfile(member).read())


def _made_up_archive(root: Path) -> Path:
    """An archive in the layout of tf_flowers, with noise for photos."""
    path = root / "made-up" / "flower_photos.tgz"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    unfinished = path.with_name("unfinished.tgz")
    with tarfile.open(unfinished, "w:gz") as archive:
        for label, name in enumerate(CLASSES):
            for number in range(MADE_UP_PER_CLASS):
                pixels = generator.integers(0, 128, (48, 64, 3), np.uint8) + np.uint8(25 * label)
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "JPEG")
                member = tarfile.TarInfo(f"flower_photos/{name}/{number}.jpg")
                member.size = content.tell()
                content.seek(0)
                archive.addfile(member, content)
    unfinished.rename(path)
    return path

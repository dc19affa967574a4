"""Preparing a folder of photos: everything that `prepare` does, and a plain loop that decodes and resizes."""

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from optduel.components.prepare.prepare import prepare_records
from optduel.components.settings import Data, FolderSource

PROCESSES = 2
"""Of the plain loop."""


def run(seed: int, folder: Path, kind: str, photos: str, image_size: Sequence[int]) -> dict[str, Any]:
    """Goes over all photos once.

    Args:
        seed: not used.
        folder: for the records.
        kind: a key of `KINDS`.
        photos: a folder of class folders.
        image_size: height and width.

    Returns:
        Images/s, and the processor time of an image in microseconds, that of children included.
    """
    count = len(list(Path(photos).glob("*/*.jpg")))
    started, used = time.perf_counter(), _processor_seconds()
    KINDS[kind](photos, (image_size[0], image_size[1]), folder)
    seconds, used = time.perf_counter() - started, _processor_seconds() - used
    return {"images_per_second": count / seconds, "processor_microseconds": used / count * 1e6}


def _processor_seconds() -> float:
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _prepare(photos: str, image_size: tuple[int, int], folder: Path) -> None:
    prepare_records(Data(source=FolderSource(path=photos), image_size=image_size), str(folder / "root"))


def _plain_loop(photos: str, image_size: tuple[int, int], folder: Path) -> None:
    files = sorted(map(str, Path(photos).glob("*/*.jpg")))
    fork = multiprocessing.get_context("fork")  # which costs next to nothing
    processes = [
        fork.Process(target=_decode, args=(files[part::PROCESSES], image_size)) for part in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"the plain loop ended with {process.exitcode}")


def _decode(files: Sequence[str], image_size: tuple[int, int]) -> None:
    for file in files:
        with Image.open(file) as image:
            image.convert("RGB").resize(image_size[::-1], Image.Resampling.BILINEAR).tobytes()


KINDS: dict[str, Callable[[str, tuple[int, int], Path], None]] = {
    "prepare": _prepare,
    "pillow": _plain_loop,
}

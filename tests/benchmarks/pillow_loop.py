"""A plain loop that decodes and resizes photos, in two processes. Imports nothing but Pillow.

What else a process has imported decides what the loop costs: see `prepare_rate`.
"""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.benchmarks.rates import pass_over

PROCESSES = 2


def run(seed: int, folder: Path, photos: str, image_size: Sequence[int]) -> dict[str, Any]:
    """Goes over all photos once, as `prepare_rate.run` does."""
    return pass_over(photos, lambda: loop(photos, (image_size[0], image_size[1])))


def loop(photos: str, image_size: tuple[int, int]) -> None:
    """Decodes and resizes every photo to height and width."""
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

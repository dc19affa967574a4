"""Preparing a folder of photos: everything that `prepare` does, and the plain loop after the same imports.

glibc gives the free end of the heap back to the kernel, until larger blocks than the loop's were freed. So
the loop fetches 85 pages an image anew where Pillow alone was imported, and none after the imports of
`prepare`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optduel.components.prepare.prepare import prepare_records
from optduel.components.settings import Data, FolderSource
from tests.benchmarks.pillow_loop import loop
from tests.benchmarks.rates import pass_over


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
    return pass_over(photos, lambda: KINDS[kind](photos, (image_size[0], image_size[1]), folder))


def _prepare(photos: str, image_size: tuple[int, int], folder: Path) -> None:
    prepare_records(Data(source=FolderSource(path=photos), image_size=image_size), str(folder / "root"))


def _loop(photos: str, image_size: tuple[int, int], folder: Path) -> None:
    loop(photos, image_size)


KINDS: dict[str, Callable[[str, tuple[int, int], Path], None]] = {"prepare": _prepare, "loop": _loop}

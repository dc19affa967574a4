"""The records' card: what a data set holds, as one HTML page that loads nothing and runs no script."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from optduel.components.records import (
    DESCRIPTION_TEMPLATES,
    Records,
    RecordsDescription,
    data_cautions,
    describe,
    first_examples,
)

SHEET_CLASSES = 24
"""Classes on the contact sheet; with more it would grow past a few megabytes."""

SHEET_SAMPLES = 8
"""Images of each class on the contact sheet."""

_CELL = 64
_GAP = 4
_SHARD_BYTES_LOOKED_AT = 4 * 2**20
_BYTES_LOOKED_AT = 64 * 2**20
"""Of the training records; of many classes it shows fewer samples then."""


def records_card(records: Records) -> str:
    """Describes records: counts per class and split, samples of each class, duplicates and omissions.

    Raises:
        DataError: a shard is not what the manifest says.
        StorageError: a shard cannot be read.
    """
    manifest = records.manifest
    return render_card(
        f"Records of {manifest.name}",
        describe(records),
        data_cautions(manifest),
        _samples(records),
        "training images, as the records hold them",
    )


def render_card(
    title: str,
    description: RecordsDescription,
    cautions: Sequence[str],
    samples: Sequence[Sequence[np.ndarray]],
    shown: str,
) -> str:
    """The page of a data set.

    Args:
        samples: of each of the first classes, uint8 [height, width, channels].
        shown: what the samples are, in words.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent / "templates", DESCRIPTION_TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("card.html").render(
        title=title,
        cautions=cautions,
        records=description,
        sheet=base64.b64encode(draw_sheet(samples)).decode(),
        sheet_classes=[name for name, _, _ in description.counts[: len(samples)]],
        shown=shown,
        sheet_samples=SHEET_SAMPLES,
        cell=_CELL,
        gap=_GAP,
    )


def draw_sheet(samples: Sequence[Sequence[np.ndarray]]) -> bytes:
    """Images, uint8 [height, width, channels], as one PNG file, a row for each of the first classes."""
    sheet = Image.new(
        "RGBA", (SHEET_SAMPLES * (_CELL + _GAP) - _GAP, len(samples) * (_CELL + _GAP) - _GAP), (0, 0, 0, 0)
    )
    for row, images in enumerate(samples):
        for column, pixels in enumerate(images):
            cell = _cell(pixels)
            left = column * (_CELL + _GAP) + (_CELL - cell.width) // 2
            top = row * (_CELL + _GAP) + (_CELL - cell.height) // 2
            sheet.paste(cell, (left, top))
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def _samples(records: Records) -> list[list[np.ndarray]]:
    """The first images of each of the first classes, uint8 [height, width, channels], from few bytes."""
    split = records.manifest.splits["train"]
    wanted = [min(SHEET_SAMPLES, count) for count in split.class_counts[:SHEET_CLASSES]]
    samples: list[list[np.ndarray]] = [[] for _ in wanted]
    left = _BYTES_LOOKED_AT
    for shard in split.shards:
        some = min(left, _SHARD_BYTES_LOOKED_AT)
        for pixels, label in first_examples(records, shard, some):
            if label < len(wanted) and len(samples[label]) < wanted[label]:
                samples[label].append(pixels)
        left -= min(some, shard.bytes)
        if left <= 0 or all(len(found) == count for found, count in zip(samples, wanted, strict=True)):
            break
    return samples


def _cell(pixels: np.ndarray) -> Image.Image:
    height, width, channels = pixels.shape
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    scale = _CELL / max(height, width)
    # Small images show their pixels as they are.
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), method)

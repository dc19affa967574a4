"""Which images a data set holds, whatever their labels: told apart by their pixels, from week to week."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optduel.components.champions.champion import champion_folder
from optduel.components.results import Column, Schema, decode_table, encode_table
from optduel.components.storage import join, publish, read, stat

IMAGES = Schema(
    "images",
    1,
    (
        Column("image", "string", "", "128 bits of a SHA-256 over size and pixels: equal ones are equal"),
        Column("split", "string", "", "train, validation or test"),
        Column("class", "string", "", "its name"),
        Column("brightness", "float64", "fraction", "mean of all pixels and channels; 1 is white"),
    ),
)


@dataclass(frozen=True)
class ImageList:
    """The images of a data set: split after split, each in the order of its records.

    Attributes:
        images: of each, see `image_id`.
        splits: of each.
        classes: name of each one's class.
        brightness: float64 [n], 0..1.
    """

    images: Sequence[str]
    splits: Sequence[str]
    classes: Sequence[str]
    brightness: NDArray[np.float64]

    def of_split(self, split: str) -> list[str]:
        """The images of one split, in the order of its records."""
        return [
            image for image, its_split in zip(self.images, self.splits, strict=True) if its_split == split
        ]


def image_id(pixels: NDArray[np.uint8]) -> str:
    """The name of an image: the same pixels in the same size have the same one, whatever the label.

    Args:
        pixels: uint8 [height, width, channels], as the model gets them.
    """
    shape = np.array(pixels.shape, "<u4").tobytes()
    return hashlib.sha256(shape + pixels.tobytes()).hexdigest()[:32]


def images_file(root: str, name: str, data_fingerprint: str) -> str:
    """Where a champion's folder keeps which images a data set holds, longer than the data set itself."""
    return join(champion_folder(root, name), "images", f"{data_fingerprint}.parquet")


def write_images(location: str, images: ImageList) -> None:
    """Writes them, whole. Raises StorageError."""
    columns = (images.images, images.splits, images.classes, images.brightness.tolist())
    rows = [
        {"image": image, "split": split, "class": name, "brightness": brightness}
        for image, split, name, brightness in zip(*columns, strict=True)
    ]
    publish(location, encode_table(IMAGES, rows))


def read_images(location: str) -> ImageList | None:
    """Reads what `write_images` wrote; None where nothing is.

    Raises:
        StorageError: it cannot be read.
        DataError: it is damaged.
    """
    if stat(location) is None:
        return None
    rows = decode_table(IMAGES, read(location), location)
    return ImageList(
        images=[row["image"] for row in rows],
        splits=[row["split"] for row in rows],
        classes=[row["class"] for row in rows],
        brightness=np.array([row["brightness"] for row in rows], dtype=np.float64),
    )

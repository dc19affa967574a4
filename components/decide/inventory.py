"""Looks at every image of a data set: its name, class and brightness."""

import numpy as np

from optduel.components.champions import ImageList, image_id
from optduel.components.records import SPLITS, Records, SplitReader, stage

_AT_ONCE = 256


def take_inventory(records: Records) -> ImageList:
    """The images of records, split after split, each in the order of its records.

    Raises:
        DataError: a shard is damaged.
        StorageError: a shard cannot be read or brought here.
    """
    manifest = records.manifest
    images, splits, classes = list[str](), list[str](), list[str]()
    brightness = list[float]()
    for split in (name for name in SPLITS if name in manifest.splits):
        with stage(records, manifest.splits[split].shards) as staged:
            reader = SplitReader(staged, split)
            shards = len(reader.shard_sizes)
            for start in range(0, len(reader), _AT_ONCE):
                positions = np.arange(start, min(start + _AT_ONCE, len(reader)))
                pixels, labels = reader.read(positions % shards, positions // shards)
                images += [image_id(one) for one in pixels]
                splits += [split] * len(positions)
                classes += [manifest.classes[label] for label in labels]
                brightness += (pixels.mean(axis=(1, 2, 3)) / 255).tolist()
    return ImageList(images, splits, classes, np.array(brightness, dtype=np.float64))

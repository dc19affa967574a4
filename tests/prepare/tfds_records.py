"""Makes records of a builder that has pixels for images, in a module that TensorFlow Datasets can name."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from optduel.components.prepare.prepare import prepare_records
from optduel.components.settings import Data, Split, TfdsSource


class MadeUpShapes(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Twenty-four images of eight by eight pixels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        label = tfds.features.ClassLabel(names=["disc", "square"])
        features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": label}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Any]]:
        rng = np.random.default_rng(0)
        for number in range(24):
            yield number, {"image": rng.integers(0, 256, (8, 8, 3), np.uint8), "label": number % 2}


def make(root: str) -> None:
    """Makes the records below a root."""
    data = Data(
        source=TfdsSource(name=MadeUpShapes.name),
        image_size=(5, 6),
        split=Split(train=0.75, validation=0.25, test=0),
        shards=2,
    )
    prepare_records(data, root)

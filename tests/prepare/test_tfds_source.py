import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optduel.components.core import DataError, ExperimentError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.prepare.sources import Tfds
from optduel.components.records import SplitReader
from optduel.components.settings import Data, Split, TfdsSource

NO_TEST = Split(train=0.75, validation=0.25, test=0)

# TensorFlow Datasets and what it imports warn of their own business.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("tf_flower", "did you mean tf_flowers"), ("qqqqqqqq", r"tfds\.list_builders\(\) names them")],
)
def test_an_unknown_builder_is_named_with_similar_ones(name: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=f"data.source.name = {name}: .* has no such builder; {remedy}"):
        Tfds(TfdsSource(name=name), tmp_path)


def test_an_unknown_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match="data.source.name = tf_flowers/large: BuilderConfig large not found"
    ):
        Tfds(TfdsSource(name="tf_flowers/large"), tmp_path)


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match=r"tf_flowers, version = 9\.9\.9: .*cannot be loaded.*only: 3\.0\.1"
    ):
        Tfds(TfdsSource(name="tf_flowers", version="9.9.9"), tmp_path)


def test_without_network_the_message_names_address_and_remedy(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        Tfds(TfdsSource(name="tf_flowers"), tmp_path)
    assert time.monotonic() - started < 30  # TensorFlow Datasets alone takes more than three minutes
    message = str(caught.value)
    assert "http://download.tensorflow.org/example_images/flower_photos.tgz" in message
    assert message.endswith("fetch it where there is a network and name the file in data.source.archive")
    assert "\n" not in message


@pytest.fixture(scope="module")
def shapes() -> str:
    """A builder with pixels for images, a test split that repeats a training image, and unlabelled images."""
    import tensorflow_datasets as tfds

    class TinyShapes(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            label = tfds.features.ClassLabel(names=["disc", "square"])
            features = {"image": tfds.features.Image(shape=(6, 6, 1)), "label": label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {
                "train": self._examples(0, 20),
                "test": self._examples(18, 26),
                "rest": self._examples(50, 60, -1),
            }

        def _examples(self, start: int, stop: int, label: int | None = None) -> Iterator[tuple[int, Any]]:
            for number in range(start, stop):
                pixels = np.full((6, 6, 1), number, np.uint8)
                yield number, {"image": pixels, "label": number % 2 if label is None else label}

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    return str(TinyShapes.name)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("float32", "its images are float32; needed are uint8 values 0..255: scale them in the builder"),
        ("uint16", "its images are uint16; needed are uint8 values"),
        ("labels", "the pixels of its `image` are numbers of classes; needed are colours"),
    ],
)
def test_images_whose_bytes_mean_something_else_are_refused(
    feature: str, message: str, tmp_path: Path
) -> None:
    import tensorflow_datasets as tfds

    image = (
        tfds.features.LabeledImage(labels=["ground", "thing"], shape=(6, 6, 1))
        if feature == "labels"
        else tfds.features.Image(shape=(6, 6, 1), dtype=getattr(np, feature), encoding_format="png")
    )

    class Builder(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        name = f"odd_{feature}"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            label = tfds.features.ClassLabel(names=["disc", "square"])
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager: Any) -> Any:
            raise NotImplementedError

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    with pytest.raises(ExperimentError, match=f"data.source.name = odd_{feature}: {message}"):
        Tfds(TfdsSource(name=Builder.name), tmp_path)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_a_declared_test_split_is_the_test_split(shapes: str, tmp_path: Path) -> None:
    source = TfdsSource(name=shapes, test_split="test")
    data = Data(source=source, image_size=(6, 6), channels=1, split=NO_TEST, shards=2)
    records = prepare_records(data, str(tmp_path))
    counts = {name: split.records for name, split in records.manifest.splits.items()}
    assert counts == {"train": 14, "validation": 4, "test": 8}
    # Images 18 and 19 are in both splits of the builder: they stay in the test split.
    assert len(records.manifest.skipped) == 2
    assert all("of the test split" in skipped.reason for skipped in records.manifest.skipped)
    reader = SplitReader(records, "test")
    pixels, labels = reader.read(np.arange(8) % 2, np.arange(8) // 2)
    assert sorted(pixels[:, 0, 0, 0].tolist()) == list(range(18, 26))
    assert (labels == pixels[:, 0, 0, 0] % 2).all()


def test_a_part_of_a_split_can_be_named(shapes: str, tmp_path: Path) -> None:
    assert len(Tfds(TfdsSource(name=shapes, split="train[:50%]"), tmp_path).examples) == 10


def test_an_unknown_split_is_named(shapes: str, tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match=r"data\.source\.split = all_of_it: .* no such split; it has .*train"
    ):
        Tfds(TfdsSource(name=shapes, split="all_of_it"), tmp_path)


def test_a_split_without_labels_is_refused(shapes: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"data\.source\.test_split = rest: its images have no labels"):
        Tfds(TfdsSource(name=shapes, test_split="rest"), tmp_path)


def test_a_builder_without_classified_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match="its examples have .*text.*; needed are an image `image` and a class"
    ):
        Tfds(TfdsSource(name="imdb_reviews"), tmp_path)

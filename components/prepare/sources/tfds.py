"""Any TensorFlow Datasets builder whose examples have an `image` and a class `label`.

The builder runs once, into `<root>/tfds`, unless a `data_dir` holds its data already; its files then give
random access to the images as they were encoded. TensorFlow Datasets, and so TensorFlow, is imported when
such a source is opened.
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optduel.components.core.errors import ExperimentError
from optduel.components.prepare.sources.source import Example
from optduel.components.prepare.sources.tfds_archive import Archive
from optduel.components.prepare.sources.tfds_builder import find_builder, open_builder, run_builder
from optduel.components.prepare.sources.tfds_prepared import PreparedData
from optduel.components.records.manifest import Skipped
from optduel.components.settings.experiment import TfdsSource


class Tfds:
    """The examples of a builder's split, and of a second one as the test split where the source names one.

    Args:
        source: which builder, version, splits, and downloads that the user has.
        root: the builder prepares its data in `root`/tfds.

    Raises:
        ExperimentError: no such builder, version or split, or one whose examples are not classified images.
        DataError: the download failed, or the builder cannot use what it was given.
        StorageError: the data cannot be written.
    """

    problems: Sequence[Skipped] = ()

    def __init__(self, source: TfdsSource, root: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported
        import tensorflow_datasets as tfds

        archive: Archive | None = None
        self._examples_of: Callable[..., Any]
        if source.data_dir is not None:
            prepared = PreparedData(tfds, source.data_dir, source.name, source.version)
            builder, self._examples_of = prepared.builder, prepared.examples
            _check_features(tfds, builder, source.name)
        else:
            builder_class = find_builder(tfds, source)
            archive = Archive(source.archive, builder_class) if source.archive is not None else None
            # What one archive holds must not be taken for what another, or the download, would give.
            place = root / "tfds" / (f"archive-{archive.sha256[:16]}" if archive else "")
            builder = open_builder(tfds, source, place)
            _check_features(tfds, builder, source.name)
            run_builder(tfds, builder, source, archive)
            decoders = {"image": tfds.decode.SkipDecoding()}
            self._examples_of = functools.partial(builder.as_data_source, decoders=decoders)
        self.name = source.name.replace("/", "-")
        self.description = _describe(builder, source, archive)
        self.classes = tuple(str(name) for name in builder.info.features["label"].names)
        self.examples: list[Example] = []
        self._stored: list[tuple[Any, int]] = []
        self._add(builder, source.split, is_test=False)
        if source.test_split is not None:
            self._add(builder, source.test_split, is_test=True)

    def read(self, position: int) -> bytes:
        """The image as the builder stored it: as downloaded, or PNG where the builder had pixels."""
        examples, index = self._stored[position]
        return bytes(examples[index]["image"])

    def _add(self, builder: Any, split: str, is_test: bool) -> None:
        where = f"data.source.{'test_split' if is_test else 'split'} = {split}"
        try:
            examples = self._examples_of(split=split)
        except ValueError as error:
            known = ", ".join(builder.info.splits)
            raise ExperimentError(f"{where}: {builder.name} has no such split; it has {known}") from error
        for index in range(len(examples)):
            label = examples[index]["label"]
            if not 0 <= label < len(self.classes):
                raise ExperimentError(f"{where}: its images have no labels; name a split that has them")
            self.examples.append(Example(f"{split}/{index}", int(label), is_test))
            self._stored.append((examples, index))


def _check_features(tfds: Any, builder: Any, name: str) -> None:
    described = builder.info.features
    features = described if isinstance(described, tfds.features.FeaturesDict) else {}
    for feature, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        if feature not in features or not isinstance(features[feature], kind):
            raise ExperimentError(
                f"data.source.name = {name}: its examples have {', '.join(features)}; "
                "needed are an image `image` and a class `label`"
            )


def _describe(builder: Any, source: TfdsSource, archive: Archive | None) -> str:
    splits = f"split {source.split}" + (f", test split {source.test_split}" if source.test_split else "")
    origin = f", from {archive.description}" if archive else ""
    return f"TensorFlow Datasets {builder.info.full_name}, {splits}{origin}"

"""Predictions: what a trained model said of every single example, as a Parquet file per trial.

Whoever compares models on the same images reads these: the verdict, which asks whether a difference holds for
other images, too, and whoever decides between two models. Every metric of an evaluation follows from them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from optduel.components.core import DataError
from optduel.components.decoding import parse_json
from optduel.components.results.columns import Column, Schema, arrow_schema, decode_arrow, encode_arrow
from optduel.components.storage import Location, publish, read

PREDICTIONS = Schema(
    "predictions",
    1,
    (
        Column("arm", "string", "", "name of the arm"),
        Column("seed", "int64", "", "of the trial"),
        Column("split", "string", "", "that the examples are of: test or validation"),
        Column("model_sha256", "string", "", "of the model file that predicted"),
        Column("example", "string", "", "128 bits of a SHA-256 over label and pixels: equal ones are equal"),
        Column("label", "int64", "", "the true class, counted from 0 in the order of optduel.classes"),
        Column("probabilities", "list<float64>", "probability", "of each class, in the same order"),
    ),
)

_CLASSES_KEY = b"optduel.classes"
"""In the file's metadata: the names of the classes, a JSON list."""

_ROUNDING = 1e-6
"""By how much the probabilities of an example may miss 1: more than softmax ever does."""


@dataclass(frozen=True)
class Predictions:
    """A trained model on a split, example by example, in the order of the records.

    Attributes:
        model_sha256: of the model file.
        classes: names, in the order of the labels.
        examples: see `example_id`; exact duplicates within a split share theirs.
        labels: int64 [examples], 0..classes-1.
        probabilities: float64 [examples, classes], each row summing to 1.
    """

    arm: str
    seed: int
    split: Literal["test", "validation"]
    model_sha256: str
    classes: tuple[str, ...]
    examples: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def example_id(pixels: NDArray[np.uint8], label: int) -> str:
    """The name of an example: the same image, size and label have the same one in every data set.

    Args:
        pixels: uint8 [height, width, channels], as the model gets them.
        label: the true class.
    """
    about = np.array([*pixels.shape, label], "<u4").tobytes()
    return hashlib.sha256(about + pixels.tobytes()).hexdigest()[:32]


def example_ids(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> list[str]:
    """`example_id` of each of some images, uint8 [n, height, width, channels], with their labels."""
    return [example_id(image, int(label)) for image, label in zip(images, labels, strict=True)]


def write_predictions(location: Location, predictions: Predictions) -> None:
    """Writes the predictions of one trial, whole or not at all."""
    import pyarrow

    count, classes = predictions.probabilities.shape
    names = ("arm", "seed", "split", "model_sha256")
    columns: dict[str, object] = {name: [getattr(predictions, name)] * count for name in names}
    columns["example"] = list(predictions.examples)
    columns["label"] = predictions.labels
    offsets = np.arange(count + 1, dtype=np.int32) * classes
    columns["probabilities"] = pyarrow.ListArray.from_arrays(offsets, predictions.probabilities.ravel())
    schema = arrow_schema(PREDICTIONS)
    about = {**schema.metadata, _CLASSES_KEY: json.dumps(predictions.classes).encode()}
    publish(location, encode_arrow(PREDICTIONS, pyarrow.table(columns, schema=schema.with_metadata(about))))


def read_predictions(location: Location) -> Predictions:
    """Reads what `write_predictions` wrote.

    Raises:
        StorageError: it cannot be read.
        DataError: it is damaged, or no predictions of this version.
    """
    return decode_predictions(read(location), str(location))


def decode_predictions(content: bytes, where: str) -> Predictions:
    """The predictions in a file's content.

    Args:
        where: names the file in messages.

    Raises:
        DataError: as `read_predictions` does.
    """
    table = decode_arrow(PREDICTIONS, content, where)
    try:
        classes = _class_names((table.schema.metadata or {}).get(_CLASSES_KEY, b""))
        if any(column.null_count for column in table.columns):
            raise ValueError("a value is missing")
        one = {name: _only(table.column(name)) for name in ("arm", "seed", "split", "model_sha256")}
        if one["split"] not in ("test", "validation"):
            raise ValueError(f"split = {one['split']!r}: must be test or validation")
        lists = table.column("probabilities").combine_chunks()
        if set(np.diff(lists.offsets.to_numpy())) != {len(classes)}:
            raise ValueError(f"every example needs {len(classes)} probabilities, one of each class")
        probabilities = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(classes))
        labels = table.column("label").to_numpy()
        _check_values(labels, probabilities)
        examples = tuple(table.column("example").to_pylist())
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are some of these
        raise DataError(f"{where}: not predictions: {error}; evaluate again") from error
    return Predictions(
        arm=str(one["arm"]),
        seed=int(cast(int, one["seed"])),
        split=one["split"],
        model_sha256=str(one["model_sha256"]),
        classes=classes,
        examples=examples,
        labels=labels,
        probabilities=probabilities,
    )


def _class_names(content: bytes) -> tuple[str, ...]:
    names = parse_json(content)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of the classes are no list")
    return tuple(names)


def _only(column: Sequence[object]) -> object:
    values = column.unique().to_pylist()  # type: ignore[attr-defined]
    if len(values) != 1:
        raise ValueError("must hold the examples of one trial")
    return values[0]


def _check_values(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError("a label is no class")
    is_probability = (probabilities >= 0) & (probabilities <= 1)  # which nan is not
    if not is_probability.all() or (np.abs(probabilities.sum(axis=1) - 1) > _ROUNDING).any():
        raise ValueError("probabilities must lie in 0..1 and sum to 1")

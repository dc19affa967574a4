"""Predictions in Parquet: what comes back, what is refused, and which examples are the same."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyarrow import parquet

from optduel.components.core import DataError
from optduel.components.results import (
    Predictions,
    decode_predictions,
    example_ids,
    read_predictions,
    write_predictions,
)
from optduel.components.results.predictions import PREDICTIONS


def predictions(count: int = 5, classes: tuple[str, ...] = ("cat", "dög", "")) -> Predictions:
    weights = np.random.default_rng(0).random((count, len(classes))) + 1e-9
    return Predictions(
        arm="adamw",
        seed=3,
        split="test",
        model_sha256="0f" * 32,
        classes=classes,
        examples=tuple(f"{number:032x}" for number in range(count)),
        labels=np.arange(count) % len(classes),
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )


def test_predictions_come_back_to_the_last_bit(tmp_path: Path) -> None:
    written = predictions(1000)
    certain = np.zeros_like(written.probabilities)
    certain[:, 1] = 1
    # A saturated model predicts equal numbers, which would take no room if they were looked for.
    for probabilities in (written.probabilities, certain):
        one = dataclasses.replace(written, probabilities=probabilities)
        write_predictions(tmp_path / "p.parquet", one)
        read = read_predictions(tmp_path / "p.parquet")
        assert (
            dataclasses.replace(
                read, labels=one.labels, probabilities=one.probabilities, examples=one.examples
            )
            == one
        )
        assert read.probabilities.tobytes() == one.probabilities.tobytes()
        assert (read.labels.tolist(), read.examples) == (one.labels.tolist(), one.examples)


def test_other_programs_can_read_them(tmp_path: Path) -> None:
    written = predictions()
    write_predictions(tmp_path / "p.parquet", written)
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.column_names == [column.name for column in PREDICTIONS.columns]
    assert table.column("probabilities").to_pylist() == written.probabilities.tolist()
    assert json.loads(table.schema.metadata[b"optduel.classes"]) == list(written.classes)
    assert all(field.metadata[b"description"] for field in table.schema)


def changed(change: Callable[[pyarrow.Table], pyarrow.Table], folder: Path) -> bytes:
    write_predictions(folder / "p.parquet", predictions())
    buffer = io.BytesIO()
    parquet.write_table(change(parquet.read_table(folder / "p.parquet")), buffer)
    return buffer.getvalue()


def with_column(name: str, values: list[Any]) -> Callable[[pyarrow.Table], pyarrow.Table]:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        place = table.column_names.index(name)
        field = table.schema.field(place)
        return table.set_column(place, field, pyarrow.array(values, field.type))

    return change


def with_metadata(**entries: bytes | None) -> Callable[[pyarrow.Table], pyarrow.Table]:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        metadata = {key.decode(): value for key, value in table.schema.metadata.items()} | entries
        return table.replace_schema_metadata({key: value for key, value in metadata.items() if value})

    return change


THIRD = [1 / 3] * 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_column("label", [0, 1, 2, 3, 0]), "a label is no class"),
        (with_column("label", [0, 1, -1, 2, 0]), "a label is no class"),
        (with_column("label", [0, 1, None, 2, 0]), "a value is missing"),
        (with_column("arm", ["a", "a", "a", "a", "b"]), "must hold the examples of one trial"),
        (with_column("seed", [1, 1, 1, 1, 2]), "must hold the examples of one trial"),
        (with_column("split", ["train"] * 5), "must be test or validation"),
        (with_column("probabilities", [THIRD] * 4 + [[0.5, 0.5]]), "needs 3 probabilities"),
        (with_column("probabilities", [THIRD] * 4 + [None]), "a value is missing"),
        (with_column("probabilities", [THIRD] * 4 + [[0.5, 0.5, None]]), "must lie in 0..1"),
        (with_column("probabilities", [THIRD] * 4 + [[0.5, 0.5, float("nan")]]), "must lie in 0..1"),
        (with_column("probabilities", [THIRD] * 4 + [[1.5, -0.5, 0.0]]), "must lie in 0..1"),
        (with_column("probabilities", [THIRD] * 4 + [[0.5, 0.4, 0.0]]), "sum to 1"),
        (with_metadata(**{"optduel.classes": b'["a", "b"]'}), "needs 2 probabilities"),
        (with_metadata(**{"optduel.classes": b'["a", "b", 3]'}), "names of the classes are no list"),
        (with_metadata(**{"optduel.classes": b"[" * 5000}), "not predictions: not JSON"),
        (with_metadata(**{"optduel.classes": None}), "not predictions"),
        (with_metadata(**{"optduel.table": b"history"}), "holds the table 'history'"),
        (with_metadata(**{"optduel.schema_version": b"2"}), "schema version = 2"),
        (lambda table: table.drop_columns("label"), "has other columns"),
        (lambda table: table.slice(0, 0), "must hold the examples of one trial"),
    ],
)
def test_what_is_no_prediction_is_refused(
    change: Callable[[pyarrow.Table], pyarrow.Table], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem):
        decode_predictions(changed(change, tmp_path), "p")


def test_few_bytes_cannot_hold_many_values(tmp_path: Path) -> None:
    """One row whose list has a million equal numbers."""
    many = pyarrow.array([[0.0] * 1_000_000])
    content = changed(lambda table: table.slice(0, 1).set_column(6, table.schema.field(6), many), tmp_path)
    assert len(content) < 100_000
    with pytest.raises(DataError, match="p: more rows than bytes"):
        decode_predictions(content, "p")


images = arrays.arrays(np.uint8, st.sampled_from([(2, 2, 1), (4, 1, 1), (1, 4, 1), (2, 2, 3)]))


@given(one=images, other=images, label=st.integers(0, 3), other_label=st.integers(0, 3))
def test_examples_are_the_same_if_image_and_label_are(
    one: np.ndarray, other: np.ndarray, label: int, other_label: int
) -> None:
    (name,), (other_name,) = (
        example_ids(image[None], np.array([number], np.int32))
        for image, number in ((one, label), (other, other_label))
    )
    same = one.shape == other.shape and bool((one == other).all()) and label == other_label
    assert (name == other_name) == same
    assert len(name) == 32
    # In a batch, and not contiguous, it is called the same.
    batch = np.stack([one, one])[:, ::-1][:, ::-1]
    assert example_ids(batch, np.array([label, label])) == [name, name]

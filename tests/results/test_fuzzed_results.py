"""Histories, documents and the index, damaged at random: DataError, or what was written; nothing else."""

import datetime
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from optduel.components.core import DataError
from optduel.components.results import (
    IndexedArm,
    Trials,
    decode_history,
    decode_history_table,
    decode_predictions,
    read_document,
    read_index,
    write_history,
    write_history_table,
    write_index,
    write_predictions,
)
from tests.mutations import changed_json, mutated, only
from tests.results.test_documents import TRIALS
from tests.results.test_history_table import indexed, trial
from tests.results.test_predictions import predictions

INPUTS = 400
"""Of each test."""

IN_A_FOLDER = settings(max_examples=INPUTS, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(write: object, *arguments: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        write(path, *arguments)  # type: ignore[operator]
        return path.read_bytes()


HISTORY = written(write_history, TRIALS.trials[0].history * 2)
TABLE = written(write_history_table, [trial()])
PREDICTIONS = written(write_predictions, predictions())
SOUND = indexed("a", datetime.datetime(2026, 11, 23))


def entry(arm: IndexedArm) -> bytes:
    """What the index holds of a run."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(folder, arm.run, [arm])
        return Path(folder, "index", f"{arm.run}.parquet").read_bytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the index lists one sound run."""
    folder = str(tmp_path_factory.mktemp("root"))
    write_index(folder, SOUND.run, [SOUND])
    return folder


@given(content=mutated(HISTORY) | changed_json(HISTORY.splitlines()[0]))
@settings(max_examples=INPUTS)
def test_a_history(content: bytes) -> None:
    only(DataError, lambda: decode_history(content, "h.jsonl"))


@given(content=mutated(TRIALS.canonical_json().encode()) | changed_json(TRIALS.canonical_json().encode()))
@IN_A_FOLDER
def test_a_document(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    path.write_bytes(content)
    only(DataError, lambda: read_document(path, Trials))


@given(content=mutated(TABLE))
@settings(max_examples=INPUTS)
def test_a_history_table(content: bytes) -> None:
    only(DataError, lambda: decode_history_table(content, "h.parquet"))


@given(content=mutated(PREDICTIONS))
@settings(max_examples=INPUTS)
def test_predictions(content: bytes) -> None:
    only(DataError, lambda: decode_predictions(content, "p.parquet"))


@given(content=mutated(entry(indexed("b", datetime.datetime(2026, 11, 23, 1)))))
@settings(max_examples=INPUTS)
def test_the_index_shows_all_other_runs(content: bytes, root: str) -> None:
    damaged = Path(root, "index", "b.parquet")
    damaged.write_bytes(content)
    index = read_index(root)
    assert [arm for arm in index.arms if arm.run == SOUND.run] == [SOUND]
    assert len(index.arms) + len(index.problems) == 2
    assert all(problem.startswith(str(damaged)) for problem in index.problems)


def test_more_rows_than_can_be_measured_are_refused() -> None:
    """A million equal rows are a file of some kilobytes, and hundreds of megabytes as values."""
    import pyarrow
    from pyarrow import parquet

    many = 1_000_000
    buffer = pyarrow.BufferOutputStream()
    schema = parquet.read_schema(pyarrow.BufferReader(TABLE))
    parquet.write_table(
        pyarrow.table([pyarrow.nulls(many, field.type) for field in schema], schema=schema), buffer
    )
    content = buffer.getvalue().to_pybytes()
    assert len(content) < many / 10
    with pytest.raises(DataError, match="bomb: more rows than bytes"):
        decode_history_table(content, "bomb")

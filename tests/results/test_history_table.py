"""The Parquet tables: schema, damage, and rows that survive to the last digit."""

import datetime
import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from optduel.components.core import DataError
from optduel.components.results import (
    IndexedArm,
    Row,
    TrialHistory,
    decode_history_table,
    read_index,
    write_history_table,
    write_index,
)
from optduel.components.results.columns import Schema, encode
from optduel.components.results.tables import HISTORY, RUNS

Numbers = st.floats(allow_nan=False, allow_infinity=False)


def row(step: int = 1, event: Literal["step", "epoch"] = "epoch", **changes: float) -> Row:
    values: dict[str, Any] = dict.fromkeys(
        [name for name, field in Row.model_fields.items() if field.annotation is float], 0.5
    )
    values |= {"event": event, "split": "train", "step": step, "epoch": 1, "examples": 64}
    return Row.model_validate(values | changes)


def trial(arm: str = "adamw", seed: int = 0, rows: tuple[Row, ...] = (row(),)) -> TrialHistory:
    return TrialHistory(
        run="digits-1",
        experiment="digits",
        fingerprint="7e" * 32,
        data_fingerprint="0f" * 32,
        arm=arm,
        seed=seed,
        code_version="1f3a9c0d2b7e",
        started=datetime.datetime(2026, 11, 23, 10, 0),
        precision="float32",
        workers=2,
        replicas=2,
        rows=rows,
    )


def indexed(run: str, started: datetime.datetime, **fields: Any) -> IndexedArm:
    values = {
        "run": run,
        "experiment": "digits",
        "title": "Digits",
        "fingerprint": "7e" * 32,
        "data_fingerprint": "0f" * 32,
        "code_version": "1f3a9c0d2b7e",
        "started": started,
        "arm": "adamw",
        "seeds": 6,
        "split": "test",
        "median_accuracy": 0.75,
        "median_cross_entropy": 0.5,
    }
    return IndexedArm.model_validate(values | fields)


@given(cross_entropy=Numbers, gradient_norm=Numbers, step=st.integers(0, 2**62))
def test_rows_survive_to_the_last_digit(cross_entropy: float, gradient_norm: float, step: int) -> None:
    written = trial(rows=(row(step, cross_entropy=cross_entropy, gradient_norm=gradient_norm),))
    identity = written.model_dump(exclude={"rows"})
    content = encode(HISTORY, [identity | one.model_dump() for one in written.rows])
    assert decode_history_table(content, "table") == (written,)


def test_trials_are_read_back_apart_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    trials = (
        trial("sgd-l2", 0, (row(1, "step"), row(2))),
        trial("sgd-l2", 1, (row(1, "step"), row(2))),
        trial("adamw", 0),
    )
    write_history_table(path, iter(trials))
    assert decode_history_table(path.read_bytes(), str(path)) == trials


def arrow_names(annotation: Any) -> str:
    text = str(annotation)
    if "datetime" in text:
        return "timestamp[us]"
    return "int64" if "int" in text else "float64" if "float" in text else "string"


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (
            HISTORY,
            {
                name: field.annotation
                for model in (TrialHistory, Row)
                for name, field in model.model_fields.items()
                if name != "rows"
            },
        ),
        (RUNS, {name: field.annotation for name, field in IndexedArm.model_fields.items()}),
    ],
    ids=["history", "runs"],
)
def test_the_schema_has_every_field_with_its_type(schema: Schema, fields: dict[str, Any]) -> None:
    assert {column.name: column.type for column in schema.columns} == {
        name: arrow_names(annotation) for name, annotation in fields.items()
    }


def test_units_and_version_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    write_history_table(path, [trial()])
    schema = parquet.read_schema(path)
    assert schema.metadata[b"optduel.table"] == b"history"
    assert schema.metadata[b"optduel.schema_version"] == b"2"
    assert schema.field("cross_entropy").metadata[b"unit"] == b"nat"
    assert schema.field("wall_seconds").metadata[b"unit"] == b"s"
    assert all(schema.field(column.name).metadata[b"description"] for column in HISTORY.columns)
    numbers = [column for column in HISTORY.columns if column.type == "float64"]
    assert all(column.unit for column in numbers)


def test_any_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Page checksums cover the values; nothing else may change what is read."""
    path = tmp_path / "history.parquet"
    trials = (trial(rows=tuple(row(step, cross_entropy=step / 7) for step in range(1, 40))),)
    write_history_table(path, trials)
    content = path.read_bytes()
    told = []
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        try:
            assert decode_history_table(bytes(damaged), "table")[0].rows == trials[0].rows, position
        except DataError as error:
            told.append(str(error))
    assert len(told) > 20
    assert all(message.startswith("table: ") for message in told)


@pytest.mark.parametrize("length", [0, 3, 4, 200, -1, -9], ids=str)
def test_a_cut_file_is_named(tmp_path: Path, length: int) -> None:
    path = tmp_path / "history.parquet"
    write_history_table(path, [trial()])
    with pytest.raises(DataError, match=r"h\.parquet: not a Parquet file, or a damaged one: "):
        decode_history_table(path.read_bytes()[:length], "h.parquet")


@pytest.mark.parametrize("rows", [(), (row(1, "step"), row(2))], ids=["before its first row", "later"])
def test_a_trial_that_diverged_is_there_even_without_a_row(tmp_path: Path, rows: tuple[Row, ...]) -> None:
    path = tmp_path / "history.parquet"
    trials = (
        trial("sgd-l2", 0),
        trial("adamw", 0, rows).model_copy(update={"diverged_step": 3}),
        trial("adamw", 1),
    )
    write_history_table(path, trials)
    assert decode_history_table(path.read_bytes(), "h") == trials


def changed(**changes: Any) -> bytes:
    schema = Schema(**({"table": "history", "version": 2, "columns": HISTORY.columns} | changes))
    values = trial().model_dump(exclude={"rows"}) | row().model_dump()
    return encode(schema, [{column.name: values[column.name] for column in schema.columns}])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(version=3), "f: schema version = 3: this code reads 2; use the release that wrote it"),
        (changed(table="runs"), "f: holds the table 'runs', not 'history'"),
        (changed(columns=HISTORY.columns[:-1]), "f: has other columns than version 2 of its table"),
    ],
    ids=["version", "table", "columns"],
)
def test_another_table_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match="^" + message.replace(".", r"\.")):
        decode_history_table(content, "f")


def test_a_parquet_file_of_somebody_else_is_refused() -> None:
    import pyarrow

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"run": ["a"]}), buffer)
    with pytest.raises(DataError, match="f: holds the table '', not 'history'"):
        decode_history_table(buffer.getvalue(), "f")


def test_a_row_that_breaks_a_rule_is_refused() -> None:
    values = trial().model_dump(exclude={"rows"}) | row().model_dump() | {"split": "holdout"}
    with pytest.raises(DataError, match="f: not a history: "):
        decode_history_table(encode(HISTORY, [values]), "f")


def test_the_index_lists_runs_by_their_start(tmp_path: Path) -> None:
    root = str(tmp_path)
    noon = datetime.datetime(2026, 11, 23, 12)
    later = indexed("a", noon + datetime.timedelta(hours=1))
    earlier = [indexed("b", noon, arm="z"), indexed("b", noon, arm="a", baseline="z", p_value=0.25)]
    write_index(root, "a", [later])
    write_index(root, "b", earlier)
    assert read_index(root) == ([*earlier, later], [])


def test_the_index_of_a_new_root_is_empty(tmp_path: Path) -> None:
    assert read_index(str(tmp_path / "absent")) == ([], [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PAR1", "not a Parquet file, or a damaged one: "),
        (encode(Schema("runs", 4, RUNS.columns), []), "schema version = 4: this code reads 3"),
        (encode(RUNS, []), "holds no arm; run the study again"),
    ],
    ids=["damaged", "newer", "empty"],
)
def test_a_part_of_the_index_that_cannot_be_read_hides_no_other_run(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    sound = indexed("a", datetime.datetime(2026, 11, 23))
    write_index(str(tmp_path), "a", [sound])
    damaged = tmp_path / "index" / "b.parquet"
    damaged.write_bytes(content)
    (tmp_path / "index" / "c.parquet").symlink_to(tmp_path / "nowhere")
    index = read_index(str(tmp_path))
    assert index.arms == [sound]
    (told,) = index.problems
    assert told.startswith(f"{damaged}: {problem}")


COUNTED = """
import os, sys
from optduel.components.results import decode_history_table
content = open(sys.argv[1], "rb").read()
import pyarrow.parquet
before = len(os.listdir("/proc/self/task"))
decode_history_table(content, "h")
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_reading_starts_no_threads(tmp_path: Path) -> None:
    """Those of pyarrow's pool abort a process that ends right after reading, in some runs of a hundred."""
    path = tmp_path / "history.parquet"
    write_history_table(path, [trial()])
    command = [sys.executable, "-P", "-c", COUNTED, str(path)]
    assert subprocess.run(command, capture_output=True, check=True, timeout=60).stdout == b"0\n"

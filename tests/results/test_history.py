import json
from pathlib import Path

import pytest

from optduel.components.core import DataError, StorageError
from optduel.components.results import Row, epochs_of, read_history, write_history
from optduel.components.results.history import TIMING_FIELDS


def row(event: str, split: str, step: int, **changes: float) -> Row:
    values = {
        "event": event,
        "split": split,
        "step": step,
        "epoch": 1,
        "examples": 64,
        "cross_entropy": 0.1 + 0.2,  # 0.30000000000000004: every digit has to survive
        "penalty": 1e-9,
        "total": 0.300000001,
        "accuracy": 2 / 3,
        "learning_rate": 1e-3,
        "decay": 3e-7,
        "gradient_norm": 12345.678,
        "weight_norm": 1 / 3,
        "examples_per_second": 1000.0,
        "wall_seconds": 1.5,
    }
    return Row.model_validate(values | changes)


ROWS = (
    row("step", "train", 1),
    row("epoch", "train", 2),
    row("epoch", "validation", 2, accuracy=0.0),
    row("epoch", "train", 4),
)


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, ROWS)
    assert read_history(path) == ROWS


def test_a_history_is_a_json_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, ROWS)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        kept.model_dump() for kept in ROWS
    ]


def test_equal_rows_give_equal_bytes_and_replace_the_old_ones(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_history(first, ROWS)
    write_history(second, ROWS[:1])
    write_history(second, iter(ROWS))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_rows_that_cannot_be_made_leave_the_old_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, ROWS)
    with pytest.raises(ZeroDivisionError):
        write_history(path, (row("step", "train", 1 // step) for step in (1, 0)))
    assert read_history(path) == ROWS


def test_an_empty_history_has_no_rows(tmp_path: Path) -> None:
    write_history(tmp_path / "a", ())
    assert read_history(tmp_path / "a") == ()


def test_epochs_of_a_split_in_order() -> None:
    assert epochs_of(ROWS, "train") == [ROWS[1], ROWS[3]]
    assert epochs_of(ROWS, "validation") == [ROWS[2]]


def test_timing_is_no_part_of_what_is_reproducible() -> None:
    slower = row("step", "train", 1, examples_per_second=1.0, wall_seconds=99.0)
    assert slower != ROWS[0]
    assert slower.reproducible() == ROWS[0].reproducible()
    assert row("step", "train", 1, penalty=2e-9).reproducible() != ROWS[0].reproducible()
    assert ROWS[0].reproducible().keys() == Row.model_fields.keys() - set(TIMING_FIELDS)


@pytest.mark.parametrize(
    "damage",
    [b"{", b"", b"{}", b"[]", b"\xff\xfe", b"1", ROWS[0].canonical_json().encode()[:-1] + b',"more":1}'],
    ids=["cut", "empty", "no fields", "list", "no text", "number", "unknown field"],
)
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, ROWS[:1])
    path.write_bytes(path.read_bytes() + damage + b"\n")
    with pytest.raises(DataError, match=r"history\.jsonl, line 2: not a row of a history: "):
        read_history(path)


def test_an_absent_history_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent: No such file or directory"):
        read_history(tmp_path / "absent")

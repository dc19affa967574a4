"""Whatever is read back is a value that can be written again, or one kind of error."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optduel.components.decoding import parse_json, parse_object

ROOT = Path(__file__).parents[2]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES)
@settings(max_examples=100, deadline=None)
def test_what_was_written_is_read(value: object) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return
    assert parse_json(text) == value
    assert parse_json(text.encode()) == value


@given(content=st.binary(max_size=60) | st.text(max_size=60))
@example(content=b"\xff\xfe{")
@example(content="[" * 100_000)
@example(content='{"a":' * 100_000)
@example(content="NaN")
@example(content="1e400")
@example(content="[1, -Infinity]")
@example(content=r'{"\ud800": 1}')
@example(content="9" * 5000)
@settings(max_examples=300, deadline=None)
def test_anything_else_is_one_kind_of_error(content: bytes | str) -> None:
    try:
        value = parse_json(content)
    except ValueError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("content", ["[1]", '"text"', "1", "null", ""])
def test_what_has_to_be_an_object_is_one(content: str) -> None:
    with pytest.raises(ValueError, match="^not "):
        parse_object(content)
    assert parse_object(b'{"a": [1]}') == {"a": [1]}


CLOCKS_OF_FILES = {"components/records/copies.py", "components/records/integrity.py"}
"""They compare with the times of files, which are times of that clock."""


def calls(function: str) -> set[str]:
    """The files of ours that call such a function."""
    module, _, name = function.partition(".")
    found = set()
    for package in ("components", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                is_it = isinstance(node, ast.Attribute) and node.attr == name
                if is_it and isinstance(node.value, ast.Name) and node.value.id == module:
                    found.add(path.relative_to(ROOT).as_posix())
    return found


def test_nobody_else_decodes_json() -> None:
    assert calls("json.loads") | calls("json.load") == {"components/decoding/parsing.py"}


def test_no_deadline_or_duration_is_measured_by_a_clock_that_jumps() -> None:
    """That of the wall jumps when it is set, after a virtual machine was paused, and twice a year on some."""
    assert calls("time.time") == CLOCKS_OF_FILES
    assert len(calls("time.monotonic")) > 10

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WITH_EXAMPLES = [
    ".".join(["optduel", *path.relative_to(REPOSITORY).with_suffix("").parts])
    for package in ("pipeline", "components")
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0

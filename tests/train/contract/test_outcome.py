"""What is told of a worker that ended without a report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.train.contract.outcome import last_words

TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
    import tensorflow
    ^^^^^^^^^^^^^^^^^
"""


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (
            f"begins\n{TRACEBACK}ModuleNotFoundError: no x\n",
            "ModuleNotFoundError: no x",
        ),
        (
            f"{TRACEBACK}ModuleNotFoundError: a\nException ignored in: <f>\nfarewell\n",
            "ModuleNotFoundError: a",
        ),
        (
            f"{TRACEBACK}KeyError: 1\n\nDuring handling:\n\n{TRACEBACK}Own.Problem: 2\nlines\n",
            "Own.Problem: 2",
        ),
        (
            "    import tensorflow\nModuleNotFoundError: cut in front\nbye\n",
            "ModuleNotFoundError: cut in front",
        ),
        (f"{TRACEBACK}AssertionError\n", "AssertionError"),
        ("one\ntwo\n\n", "two"),
        (TRACEBACK, "^^^^^^^^^^^^^^^^^"),
        (" \n", ""),
        ("", ""),
    ],
)
def test_the_last_words_of_a_process_name_its_exception(printed: str, words: str) -> None:
    assert last_words(printed) == words


@given(st.text(max_size=200))
def test_last_words_are_one_line_of_what_was_printed(printed: str) -> None:
    words = last_words(printed)
    assert words in printed
    assert len(words.splitlines()) <= 1

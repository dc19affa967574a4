import io
import re
import sys

import pytest

from optduel.components.prepare import progress
from optduel.components.prepare.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_say_how_much_is_done_how_fast_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.0)
    with ProgressBar("writing", 40) as narration:
        narration.advance(10)
        narration.advance(20)
    lines = capsys.readouterr().err.splitlines()
    pattern = r"optduel: prepare: writing (\d+)/40 images, \d+/s, \d+ s left"
    assert [re.fullmatch(pattern, line)[1] for line in lines] == ["10", "30"]  # type: ignore[index]


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("writing", 2) as narration:
        narration.advance()
        narration.advance()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressBar("writing", 40) as narration:
        narration.advance(40)
    assert "prepare: writing" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()

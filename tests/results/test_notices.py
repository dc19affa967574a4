"""What a run has to tell waits in its folder."""

from pathlib import Path

import pytest

from optduel.components.core import ExperimentError
from optduel.components.results import Notice, read_notices, write_notice


def test_a_folder_keeps_one_notice_of_each_kind_and_the_last_one(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    assert read_notices(folder) == []
    late = Notice(event="optduel.data.late", subject="flowers", summary="No new images since Monday.")
    refused = Notice(
        event="optduel.gate.refused",
        subject="flowers",
        summary="Worse.",
        details={"accuracy": 0.5, "images": 3, "class": None, "by": "gate"},
    )
    for notice in (refused.model_copy(update={"summary": "An earlier attempt."}), refused, late):
        write_notice(folder, notice)
    assert read_notices(folder) == [late, refused]


def test_a_damaged_notice_is_named(tmp_path: Path) -> None:
    (tmp_path / "notices").mkdir()
    (tmp_path / "notices" / "optduel.run.failed.json").write_text('{"event": "optduel.run.failed"}')
    with pytest.raises(ExperimentError, match=r"optduel.run.failed.json: 2 problems"):
        read_notices(str(tmp_path))

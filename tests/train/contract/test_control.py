"""What a training process and its supervisor tell each other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import StorageError
from optduel.components.train.contract.control import STOP, Control, Progress, ProgressFile
from tests.train.processes import wait_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProgressFile, Path]]:
    path = tmp_path_factory.mktemp("progress") / "progress"
    file = ProgressFile(path)
    yield file, path
    file.close()


@given(
    phase=st.text("abcdefghijklmnopqrstuvwxyz ", min_size=1, max_size=20).map(str.strip).filter(bool),
    step=st.integers(0, 10**12),
    count=st.integers(1, 10**15),
    beats=st.integers(0, 10**15),
)
def test_what_is_reported_is_read_and_the_file_keeps_its_size(
    shared: tuple[ProgressFile, Path], phase: str, step: int, count: int, beats: int
) -> None:
    file, path = shared
    size = path.stat().st_size
    reader = ProgressFile(path)
    try:
        file.report(Progress(phase, step, count))
        file.beat(beats)
        assert reader.progress() == Progress(phase, step, count)
        assert reader.beats() == beats
    finally:
        reader.close()
    assert path.stat().st_size == size


def test_before_the_first_report_a_process_is_starting(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "progress")
    assert (file.progress(), file.beats()) == (Progress("starting", 0), 0)
    file.close()


def test_reports_of_the_same_place_differ(tmp_path: Path) -> None:
    control = Control(tmp_path / "progress")
    control.report("validating", 40)
    first = ProgressFile(tmp_path / "progress").progress()
    control.report("validating", 40)
    second = ProgressFile(tmp_path / "progress").progress()
    assert (first.phase, first.step) == (second.phase, second.step) == ("validating", 40)
    assert first != second


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent/progress: No such file"):
        ProgressFile(tmp_path / "absent" / "progress")


def test_without_a_supervisor_nothing_is_asked_and_nothing_written() -> None:
    control = Control(None)
    control.report("training", 1)
    assert not control.is_stop_requested


def test_the_request_to_stop_is_heard() -> None:
    reading, writing = os.pipe()
    control = Control(None)
    control.follow(reading)
    assert not control.is_stop_requested
    os.write(writing, STOP)
    wait_until(lambda: control.is_stop_requested)


def test_the_end_of_the_supervisor_ends_the_process() -> None:
    code = """
import time
from optduel.components.train.contract.control import Control
Control(None).follow(0)
time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", code], input=b"", timeout=30, check=False).returncode == 75

"""Of many writers at once, one wins: conditional creation and compare-and-swap."""

import concurrent.futures
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from optduel.components.core import ConflictError
from optduel.components.storage import delete, join, publish, read, stat

REPOSITORY = Path(__file__).parents[2]

WRITERS = 20


def outcome(place: str, number: int, version: str | None) -> str:
    """What one of many writers comes to."""
    content = f"writer {number}".encode()
    try:
        if version is None:
            publish(place, content, if_absent=True)
        else:
            publish(place, content, if_version=version)
    except ConflictError:
        return "lost"
    return f"writer {number}"


def outcomes(place: str, version: str | None) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(outcome, [place] * WRITERS, range(WRITERS), [version] * WRITERS))


def check_one_winner(place: str, found: list[str]) -> None:
    assert found.count("lost") == WRITERS - 1
    (winner,) = set(found) - {"lost"}
    assert read(place).decode() == winner


def test_of_many_creators_one_wins(root: str) -> None:
    for attempt in range(3):
        place = join(root, f"{attempt}.json")
        check_one_winner(place, outcomes(place, None))


def test_of_many_swappers_one_wins(root: str) -> None:
    place = join(root, "pointer.json")
    for _ in range(3):
        version = publish(place, os.urandom(8)).version
        check_one_winner(place, outcomes(place, version))


def test_no_increment_is_lost_among_many_counters(root: str) -> None:
    place = join(root, "counter")
    publish(place, b"0")

    def increment(_: int) -> None:
        while True:
            found = stat(place)
            assert found is not None
            value = int(read(place))
            try:
                publish(place, str(value + 1).encode(), if_version=found.version)
            except ConflictError:
                continue
            return

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(12)))
    assert read(place) == b"12"


COUNTER = """
import sys, time
from optduel.components.core.errors import ConflictError
from optduel.components.storage import publish, read, stat
for _ in range(20):
    while True:
        version = stat(sys.argv[1]).version
        value = int(read(sys.argv[1]))
        try:
            publish(sys.argv[1], str(value + 1).encode(), if_version=version)
            break
        except ConflictError:
            time.sleep(0.001)
"""


def test_processes_of_one_host_exclude_one_another(tmp_path: Path) -> None:
    place = tmp_path / "counter"
    publish(place, b"0")
    command = [sys.executable, "-c", COUNTER, str(place)]
    counters = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(4)]
    assert [counter.wait(60) for counter in counters] == [0] * 4
    assert read(place) == b"80"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


class Register(RuleBasedStateMachine):
    """A local file is a register with compare-and-swap: no older version ever matches."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.place = Path(self.folder.name, "register")
        self.content: bytes | None = None
        self.version: str | None = None
        self.stale: list[str] = []

    def written(self, content: bytes, version: str) -> None:
        if self.version is not None:
            self.stale.append(self.version)
        self.content, self.version = content, version

    @rule(content=st.binary(max_size=2))
    def create(self, content: bytes) -> None:
        if self.content is None:
            self.written(content, publish(self.place, content, if_absent=True).version)
        else:
            with pytest.raises(ConflictError):
                publish(self.place, content, if_absent=True)

    @rule(content=st.binary(max_size=2))
    def swap(self, content: bytes) -> None:
        if self.version is None:
            with pytest.raises(ConflictError):
                publish(self.place, content, if_version="1-1-1")
        else:
            self.written(content, publish(self.place, content, if_version=self.version).version)

    @rule(data=st.data(), content=st.binary(max_size=2))
    def swap_an_older_version(self, data: st.DataObject, content: bytes) -> None:
        if self.stale:
            version = data.draw(st.sampled_from(self.stale))
            with pytest.raises(ConflictError):
                publish(self.place, content, if_version=version)

    @rule()
    def remove(self) -> None:
        delete(self.place)
        if self.version is not None:
            self.stale.append(self.version)
        self.content = self.version = None

    @invariant()
    def holds_what_was_written_last(self) -> None:
        found = stat(self.place)
        assert (found and found.version) == self.version
        if found:
            assert read(self.place) == self.content

    def teardown(self) -> None:
        self.folder.cleanup()


Register.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestRegister = Register.TestCase

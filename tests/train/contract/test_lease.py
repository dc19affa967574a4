"""A lease: what renews it, when it has expired, and what never ends a training."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import StorageError
from optduel.components.storage import delete, publish, stat
from optduel.components.train.contract import lease
from optduel.components.train.contract.lease import LeaseKeeper, LeaseWatch
from tests.train.processes import wait_until

SECONDS = 100.0
"""After which a lease expires, by the clock that the tests pass on; a look is due every 10."""


@pytest.fixture
def place(tmp_path: Path) -> str:
    (tmp_path / "trial").mkdir()
    publish(tmp_path / "trial/lease", b"launcher 1")
    return str(tmp_path / "trial/lease")


def looks(watch: LeaseWatch, begin: int, end: int, step: int = 10) -> None:
    for now in range(begin, end, step):
        watch.look(float(now))


def test_a_lease_that_nobody_renews_expires_in_time_and_is_given_up(place: str) -> None:
    watch = LeaseWatch(place, SECONDS)
    looks(watch, 0, 100)
    assert not watch.is_expired
    looks(watch, 100, 101)
    assert watch.is_expired
    assert stat(place) is None


def test_each_renewal_begins_the_count_anew_whatever_clocks_say(place: str) -> None:
    watch = LeaseWatch(place, SECONDS)
    for count in range(5):
        publish(place, f"launcher {count}".encode())
        os.utime(place, (10**9 - 10**6 * count,) * 2)  # its clock goes backwards
        looks(watch, 90 * count, 90 * (count + 1))
    assert not watch.is_expired
    looks(watch, 450, 560)
    assert watch.is_expired


def test_another_launcher_that_takes_over_in_time_keeps_the_training(place: str) -> None:
    watch = LeaseWatch(place, SECONDS)
    looks(watch, 0, 100)
    publish(place, b"another 1")
    looks(watch, 100, 200)
    assert not watch.is_expired


def test_a_lease_that_is_not_there_expires_too(place: str) -> None:
    delete(place)
    watch = LeaseWatch(place, SECONDS)
    looks(watch, 0, 101)
    assert watch.is_expired


def test_a_store_that_fails_never_ends_a_training(place: str) -> None:
    """It may be the launcher that cannot reach the store: it has the whole time again to renew its lease."""
    watch = LeaseWatch(place, SECONDS)
    looks(watch, 0, 100)
    shutil.move(Path(place).parent, f"{Path(place).parent}-away")
    Path(place).parent.symlink_to(Path(place).parent)  # a loop: every look is refused
    with pytest.raises(StorageError):
        stat(place)
    looks(watch, 100, 100_000)
    assert not watch.is_expired
    assert not watch.is_given_up()
    Path(place).parent.unlink()
    shutil.move(f"{Path(place).parent}-away", Path(place).parent)
    looks(watch, 100_000, 100_100)
    assert not watch.is_expired
    looks(watch, 100_100, 100_101)
    assert watch.is_expired


def test_a_lease_that_cannot_be_given_up_is_kept(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be deleted, nothing can be saved either."""

    def refuse(_: str) -> None:
        raise StorageError("no")

    watch = LeaseWatch(place, SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(lease, "delete", refuse)
        looks(watch, 0, 1_000)
        assert not watch.is_expired
    looks(watch, 1_000, 1_101)
    assert watch.is_expired


def test_a_machine_that_paused_ends_no_training(place: str) -> None:
    """The launcher may have been paused with it."""
    watch = LeaseWatch(place, SECONDS)
    looks(watch, 0, 20)
    looks(watch, 5_000, 5_070)
    assert not watch.is_expired
    looks(watch, 5_070, 5_090)
    assert watch.is_expired


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=40))
def test_it_expires_only_when_unchanged_for_the_whole_time(steps: list[tuple[float, bool]]) -> None:
    """Against a model: time since the last renewal, in looks that count for 20 at most."""
    version = ""
    watch = LeaseWatch("unused", SECONDS)
    now = quiet = 0.0

    class Found:
        @property
        def version(self) -> str:
            return version

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "stat", lambda _: Found())
        patch.setattr(lease, "delete", lambda _: None)
        watch.look(now)
        for pause, is_renewed in steps:
            now += pause
            if is_renewed:
                version += "x"
            quiet = 0.0 if is_renewed else quiet + min(pause, 20.0)
            was_expired = watch.is_expired
            watch.look(now)
            if not was_expired:
                assert watch.is_expired is (quiet >= SECONDS)


def test_a_keeper_renews_while_it_lives_and_leaves_nothing_behind(place: str) -> None:
    with LeaseKeeper(place, 0.2):
        seen = {Path(place).read_text()}
        wait_until(lambda: seen.add(Path(place).read_text()) or len(seen) > 3)
    assert stat(place) is None


def test_a_keeper_that_fails_leaves_its_lease(place: str) -> None:
    with pytest.raises(KeyError), LeaseKeeper(place, 60):
        raise KeyError
    assert stat(place) is not None


def test_a_keeper_without_access_goes_on_and_says_so_once(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def refuse(*_: object) -> None:
        attempts.append(1)
        raise StorageError(f"{place}: no")

    with LeaseKeeper(place, 0.2):
        with monkeypatch.context() as patch:
            patch.setattr(lease, "publish", refuse)
            wait_until(lambda: len(attempts) > 3)
        before = Path(place).read_text()
        wait_until(lambda: Path(place).read_text() != before)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"optduel: the lease of the training job cannot be renewed: {place}: no; trying on"]

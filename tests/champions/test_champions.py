"""A champion moves whole or not at all, whoever is killed and however many want it at a time."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.champions import (
    Champion,
    champion_file,
    complete_history,
    current,
    history,
    history_file,
    model_folder,
)
from optduel.components.core import ConflictError, DamagedError, DataError, ExperimentError, OptduelError
from optduel.components.promote.promotion import check_model, pin, promote, roll_back
from optduel.components.storage import delete, join, list_entries, publish, read, stat
from tests.champions.conftest import candidate_of

REPOSITORY = Path(__file__).parents[2]
MOMENTS = 20


def promoted(root: str, run: str, number: int | None, name: str = "weekly") -> Champion:
    candidate = candidate_of(root, run, run.encode())
    return promote(root, name, candidate, number, "promoted", f"run {run}", "passed", lambda *_: None)


def test_a_promotion_copies_the_model_and_keeps_every_change(store: str) -> None:
    assert current(store, "weekly") is None
    assert history(store, "weekly") == []
    first = promoted(store, "run-1", None)
    second = promoted(store, "run-2", 1)
    delete(join(store, "runs", "run-2", "model.keras"))
    held = current(store, "weekly")
    assert held is not None
    assert held.champion == second
    assert (second.number, second.predecessor) == (2, 1)
    assert second.candidate.model == join(
        model_folder(store, "weekly", second.candidate.model_sha256), "model.keras"
    )
    assert read(second.candidate.model) == b"run-2"
    assert history(store, "weekly") == [first, second]
    assert json.loads(read(history_file(store, "weekly", 1))) == first.model_dump(mode="json")


def test_who_was_judged_against_another_champion_is_refused(store: str) -> None:
    promoted(store, "run-1", None)
    promoted(store, "run-2", 1)
    before = read(champion_file(store, "weekly"))
    for number, stood in ((1, "change 1"), (None, "no champion")):
        with pytest.raises(
            ConflictError, match=rf"stands at change 2 .* judged against {stood}; run it again"
        ):
            promoted(store, "run-3", number)
    assert read(champion_file(store, "weekly")) == before
    assert [one.candidate.run for one in history(store, "weekly")] == ["run-1", "run-2"]


def test_roll_back_goes_back_model_by_model(tmp_path: Path) -> None:
    root = str(tmp_path)
    for number, run in enumerate(["run-1", "run-2", "run-3"]):
        promoted(root, run, number or None)
    back = [roll_back(root, "weekly", None, "ann", "worse in the shop") for _ in range(2)]
    assert [one.candidate.run for one in back] == ["run-2", "run-1"]
    assert [one.number for one in history(root, "weekly")] == [1, 2, 3, 4, 5]
    with pytest.raises(ExperimentError, match="has no predecessor to go back to"):
        roll_back(root, "weekly", None, "ann", "further")
    assert roll_back(root, "weekly", 3, "ann", "it was the shop").candidate.run == "run-3"
    with pytest.raises(ExperimentError, match="has no change 77 to go back to; there are 1, 2, 3, 4, 5, 6"):
        roll_back(root, "weekly", 77, "ann", "further")


def test_a_model_that_was_changed_or_is_gone_is_not_gone_back_to(tmp_path: Path) -> None:
    root = str(tmp_path)
    first = promoted(root, "run-1", None)
    promoted(root, "run-2", 1)
    publish(first.candidate.model, b"another one")
    with pytest.raises(DataError, match=r"model.keras: SHA-256 .* was changed; restore it"):
        roll_back(root, "weekly", None, "ann", "worse")
    delete(first.candidate.model)
    with pytest.raises(DataError, match=r"model.keras: is gone; restore it, or take another change"):
        roll_back(root, "weekly", None, "ann", "worse")
    held = current(root, "weekly")
    assert held is not None
    assert held.champion.candidate.run == "run-2"


def test_a_candidate_that_was_changed_since_it_was_measured_is_refused(tmp_path: Path) -> None:
    root = str(tmp_path)
    candidate = candidate_of(root, "run-1", b"measured")
    publish(candidate.model, b"changed")
    with pytest.raises(DataError, match="was changed"):
        promote(root, "weekly", candidate, None, "promoted", "run run-1", "passed", lambda *_: None)
    assert current(root, "weekly") is None
    assert stat(candidate.model) is not None


def test_a_pinned_champion_stays(tmp_path: Path) -> None:
    root = str(tmp_path)
    with pytest.raises(ExperimentError, match="there is no champion yet"):
        pin(root, "weekly", True, "ann", "fair")
    first = promoted(root, "run-1", None)
    pinned = pin(root, "weekly", True, "ann", "trade fair")
    assert (pinned.number, pinned.candidate, pinned.pinned) == (2, first.candidate, True)
    refused = r"is pinned by ann \(trade fair\); release it first"
    with pytest.raises(ExperimentError, match=refused):
        promoted(root, "run-2", 2)
    with pytest.raises(ExperimentError, match=refused):
        roll_back(root, "weekly", 1, "bob", "worse")
    with pytest.raises(ExperimentError, match="is pinned already"):
        pin(root, "weekly", True, "bob", "again")
    pin(root, "weekly", False, "ann", "over")
    assert promoted(root, "run-2", 3).number == 4
    assert [one.action for one in history(root, "weekly")] == ["promoted", "pinned", "released", "promoted"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is no champion; restore it from history/ beside it"),
        (b'{"number": 1}', "name: is required"),
    ],
)
def test_a_bad_champion_is_told_and_never_replaced(tmp_path: Path, content: bytes, told: str) -> None:
    root = str(tmp_path)
    publish(champion_file(root, "weekly"), content)
    with pytest.raises(DataError, match=told):
        promoted(root, "run-1", None)
    assert read(champion_file(root, "weekly")) == content


def test_the_champion_of_another_name_is_refused(tmp_path: Path) -> None:
    root = str(tmp_path)
    promoted(root, "run-1", None, "other")
    publish(champion_file(root, "weekly"), read(champion_file(root, "other")))
    with pytest.raises(DataError, match="name = other: is another champion's"):
        current(root, "weekly")


def test_history_is_only_added_to(tmp_path: Path) -> None:
    root = str(tmp_path)
    first = promoted(root, "run-1", None)
    other = first.model_copy(update={"reason": "another"})
    with pytest.raises(DamagedError, match="history is only ever added to"):
        complete_history(root, other)
    assert history(root, "weekly") == [first]


PROMOTIONS = """
import json, os, signal, sys, time
from optduel.components.champions import current, history
from optduel.components.promote.promotion import check_model, promote
from tests.champions.conftest import candidate_of
root, moments = json.loads(sys.argv[1])

def attempt(candidate, number):
    promote(root, "weekly", candidate, number, "promoted", candidate.run, "passed", lambda *_: None)

begun = time.monotonic()
attempt(candidate_of(root, "run-0", b"0"), None)
seconds = time.monotonic() - begun
for number, moment in enumerate(moments, start=1):
    candidate = candidate_of(root, f"run-{number}", str(number).encode() * 100_000)
    writer = os.fork()
    if writer == 0:
        try:
            attempt(candidate, number)
        finally:
            os._exit(0)
    time.sleep(moment * seconds)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    found = current(root, "weekly").champion
    check_model(found.candidate)
    assert [one.number for one in history(root, "weekly")] == list(range(1, found.number + 1))
    print(found.number - number, flush=True)
    attempt(candidate, number)
    assert current(root, "weekly").champion.candidate.run == candidate.run
    assert len(history(root, "weekly")) == number + 1
"""
"""Kills one promotion after the other; prints 0 where the old champion stayed, 1 where the new one stands."""


@pytest.mark.slow
def test_killed_at_any_moment_the_champion_is_the_old_or_the_new_one(store: str) -> None:
    dice = random.Random(1)
    moments = [dice.uniform(0, 1.5) for _ in range(MOMENTS)]
    finished = subprocess.run(
        [sys.executable, "-c", PROMOTIONS, json.dumps([store, moments])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert set(finished.stdout.split()) == {"0", "1"}, "some were killed before the swap, some after it"
    entries = list_entries(join(store, "champions", "weekly", "history"))
    assert len(entries) == MOMENTS + 1


RACES = """
import json, os, sys
from optduel.components.core import ConflictError
from optduel.components.promote.promotion import promote
from tests.champions.conftest import candidate_of
root, rounds = json.loads(sys.argv[1])
for number in range(1, rounds + 1):
    begin, begun = os.pipe()
    racers = []
    for racer in "ab":
        run = f"run-{number}-{racer}"
        candidate = candidate_of(root, run, run.encode())
        process = os.fork()
        if process == 0:
            os.close(begun)
            os.read(begin, 1)  # until the other end is closed
            told = None
            try:
                promote(root, "weekly", candidate, number, "promoted", run, "passed", lambda *_: None)
            except ConflictError as error:
                told = str(error)
            os.write(1, json.dumps([number, run, told]).encode() + b"\\n")
            os._exit(0)
        racers.append(process)
    os.close(begin)
    os.close(begun)
    for process in racers:
        os.waitpid(process, 0)
"""
ROUNDS = 5


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(store: str) -> None:
    promoted(store, "run-0", None)
    finished = subprocess.run(
        [sys.executable, "-c", RACES, json.dumps([store, ROUNDS])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    ends = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(ends) == 2 * ROUNDS
    changes = history(store, "weekly")
    assert [one.number for one in changes] == list(range(1, ROUNDS + 2))
    for number in range(1, ROUNDS + 1):
        ((winner, _),) = [(run, told) for round_, run, told in ends if round_ == number and told is None]
        ((_, told),) = [(run, told) for round_, run, told in ends if round_ == number and told is not None]
        assert changes[number].candidate.run == winner
        assert f"change {number + 1}" in told
        check_model(changes[number].candidate)


def test_what_no_candidate_is_ends_in_one_message(tmp_path: Path) -> None:
    candidate = candidate_of(str(tmp_path), "run-1", b"1")
    delete(candidate.model)
    with pytest.raises(OptduelError, match=r"runs/run-1/model.keras: .*"):
        promote(str(tmp_path), "weekly", candidate, None, "promoted", "ann", "passed", lambda *_: None)

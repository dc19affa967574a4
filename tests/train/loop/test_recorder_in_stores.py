"""What a chief writes in the background while its store fails: all after retries, or one error in time."""

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optduel.components.core import ConflictError, StorageError
from optduel.components.storage import list_entries, stat
from optduel.components.train.contract.task import Task
from optduel.components.train.loop.checkpoint import latest, save
from optduel.components.train.loop.recorder import Recorder
from tests.faults.answers import EXPIRED, status
from tests.faults.proxy import Fault
from tests.servers.places import Place, one_store
from tests.train.checkpoints import a_checkpoint, assert_is, step_file
from tests.train.processes import wait_until

ALWAYS = 1_000_000
SENDING = ("PUT", "POST")
CHECKPOINT = r"step-0000000002\.npz"
SECONDS = 1.5
"""The time that an operation may take where it is to fail."""


@pytest.fixture(autouse=True)
def bounded_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "6")


@pytest.fixture
def task(make_task: Callable[..., Task], place: Place) -> Task:
    """A trial with its results in a store."""
    made = make_task("unused", compute={"checkpoints_kept": 3})
    return made.model_copy(update={"output": f"{place.root}/trial"})


@pytest.fixture
def recorder(task: Task, tmp_path: Path) -> Recorder:
    return Recorder(task, "trial", [], tmp_path / "scratch")


class Variable:
    """Holds what a variable of TensorFlow would."""

    def __init__(self, value: np.ndarray) -> None:
        self._value = value

    def numpy(self) -> np.ndarray:
        """The value."""
        return self._value


def train_to(recorder: Recorder, step: int) -> None:
    """Saves as a trial does after so many steps."""
    saved = a_checkpoint(step)
    variables: Mapping[str, Any] = {name: Variable(array) for name, array in saved.arrays.items()}
    recorder.save(step, variables, {}, saved.state)


PASSING: dict[str, Callable[[], Fault]] = {
    "503": lambda: Fault(answer=status(503), times=3),
    "429": lambda: Fault(answer=status(429), times=3),
    "503 to a checkpoint": lambda: Fault(answer=status(503), methods=SENDING, pattern=CHECKPOINT, times=2),
    "reset while sending": lambda: Fault(lose_answer=True, methods=SENDING, pattern=CHECKPOINT, times=2),
    "reset in a listing": lambda: Fault(reset_at=0.5, methods=("GET",), pattern="prefix="),
    "truncated listing": lambda: Fault(cut_at=0.5, methods=("GET",), pattern="prefix="),
    "truncated answer": lambda: Fault(cut_at=0.5, methods=SENDING, pattern=CHECKPOINT),
    "wrong bytes": lambda: Fault(flip_sent=True, methods=SENDING, pattern=CHECKPOINT),
    "slow drip": lambda: Fault(drip=0.1, methods=("GET",), pattern="prefix="),
    "silence": lambda: Fault(silence=30, methods=SENDING, pattern=CHECKPOINT),
    "lost deletion": lambda: Fault(lose_answer=True, methods=("DELETE",)),
}


@one_store
@pytest.mark.parametrize("kind", PASSING)
def test_faults_that_pass_do_not_reach_the_trial(
    task: Task, recorder: Recorder, place: Place, kind: str
) -> None:
    train_to(recorder, 1)
    fault = place.proxy.inject(PASSING[kind]())
    for step in (2, 3, 4):
        train_to(recorder, step)
    recorder.finish([])
    assert fault.happened == fault.times
    assert_is(latest(task.checkpoint_folder, "trial"), 4)
    names = [entry.uri.rpartition("/")[2] for entry in list_entries(task.checkpoint_folder)]
    assert names == [step_file(step) for step in (2, 3, 4)]
    assert stat(task.history_file) is not None


LASTING: dict[str, tuple[Callable[[str], Fault], str]] = {
    "403": (lambda kind: Fault(answer=status(403)), "HTTP 403.*; grant the identity in use"),
    "404 bucket": (lambda kind: Fault(answer=status(404)), "HTTP 404.*; .*create the bucket"),
    "412": (lambda kind: Fault(answer=status(412)), "another writer"),
    "429": (lambda kind: Fault(answer=status(429)), "HTTP 429.*try again"),
    "503": (lambda kind: Fault(answer=status(503)), "HTTP 503.*try again"),
    "expired": (lambda kind: Fault(answer=EXPIRED[kind]), "expired.*renew"),
    "reset": (lambda kind: Fault(lose_answer=True), "attempts in.*; check the network"),
    "truncated answer": (lambda kind: Fault(cut_at=0.5), "attempts in.*; "),
    "wrong bytes": (lambda kind: Fault(flip_sent=True), "2 attempts in.*; write the object again"),
    "silence": (lambda kind: Fault(silence=30), "attempts in.*; check the network"),
    "slow drip": (lambda kind: Fault(drip=0.5), "attempts in.*; check the network"),
}
WITHOUT_A_BODY = {("s3", "truncated answer"), ("s3", "slow drip")}
"""S3 says all in the headers when an object has come: there is nothing to cut or to drip."""


# Google's client leaves a connection to the garbage collector when it cannot renew its credentials.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@one_store
@pytest.mark.parametrize("kind", LASTING)
def test_faults_that_last_end_the_trial_with_one_error_and_what_was_saved_stays(
    task: Task, recorder: Recorder, place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (place.kind, kind) in WITHOUT_A_BODY:
        pytest.skip("such an answer has no body")
    train_to(recorder, 1)
    wait_until(lambda: latest(task.checkpoint_folder, "trial"))
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", str(SECONDS))
    make, told = LASTING[kind]
    fault = make(place.kind)
    fault.methods, fault.pattern, fault.times = SENDING, CHECKPOINT, ALWAYS
    place.proxy.inject(fault)
    begun = time.monotonic()
    train_to(recorder, 2)  # goes on in the background
    with pytest.raises(StorageError, match=f"^{task.checkpoint_folder}/{step_file(2)}: .*{told}") as raised:
        train_to(recorder, 3)
    assert time.monotonic() - begun < 2 * SECONDS + 1
    assert isinstance(raised.value, ConflictError) == (kind == "412")
    place.proxy.reset()
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "6")
    found = latest(task.checkpoint_folder, "trial")
    assert found is not None
    assert_is(found, found.step)
    gc.collect()


def test_a_checkpoint_that_another_chief_writes_at_the_same_moment_is_whole(
    task: Task, recorder: Recorder, place: Place
) -> None:
    """As where a host that was cut off goes on for a while: both write the same bytes."""

    def overtake() -> None:
        save(task.checkpoint_folder, a_checkpoint(2), kept=3)

    fault = place.proxy.inject(Fault(before=overtake, methods=SENDING, pattern=CHECKPOINT))
    for step in (1, 2, 3):
        train_to(recorder, step)
    recorder.finish([])
    assert fault.happened == 1
    assert_is(latest(task.checkpoint_folder, "trial"), 3)
    assert len(list_entries(task.checkpoint_folder)) == 3

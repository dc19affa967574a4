"""Whole trials whose store fails: what passes changes no number, what lasts is one error, and it goes on."""

import time
from collections.abc import Callable

import pytest

from optduel.components.core import RefusedError
from optduel.components.records import Records
from optduel.components.results import TrainingRecord, read_document
from optduel.components.storage import list_entries, stat
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.faults.answers import EXPIRED, status
from tests.faults.groups import results
from tests.faults.proxy import Fault
from tests.faults.stored_trials import stored_task
from tests.servers.places import Place

ALWAYS = 1_000_000
SENDING = ("PUT", "POST")

PASSING: tuple[Callable[[], Fault], ...] = (
    lambda: Fault(answer=status(503), methods=SENDING, pattern=r"step-0000000014\.npz", times=2),
    lambda: Fault(answer=status(429), methods=SENDING, pattern=r"step-0000000028\.npz", times=2),
    lambda: Fault(lose_answer=True, methods=SENDING, pattern=r"step-0000000042\.npz"),
    lambda: Fault(flip_sent=True, methods=SENDING, pattern=r"step-0000000056\.npz"),
    lambda: Fault(silence=30, methods=SENDING, pattern=r"step-0000000070\.npz"),
    lambda: Fault(drip=0.2, methods=("GET",), pattern="prefix=.*checkpoints"),
    lambda: Fault(reset_at=0.5, methods=("GET",), pattern="prefix=.*checkpoints"),
    lambda: Fault(cut_at=0.5, methods=("GET",), pattern="prefix=.*checkpoints"),
)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_trial_survives_faults_that_pass_and_goes_on_after_one_that_lasts(
    place: Place,
    records: Records,
    staging: object,
    uninterrupted: str,
    quick_starts: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "10")
    task: Task = stored_task(records, place.root, workers=2, restarts=3)
    faults = [place.proxy.inject(make()) for make in PASSING]
    place.proxy.inject(
        Fault(answer=EXPIRED[place.kind], methods=SENDING, pattern=r"step-00000003\d\d\.npz", times=ALWAYS)
    )
    begun = time.monotonic()
    with pytest.raises(RefusedError, match=f"{task.checkpoint_folder}/step-00000003.*expired.*renew"):
        LocalLauncher().run(task)
    assert "All workers start again" not in capfd.readouterr().err
    assert time.monotonic() - begun < 90
    assert [fault.happened for fault in faults] == [fault.times for fault in faults]
    assert list_entries(task.checkpoint_folder)
    assert stat(task.record_file) is None

    place.proxy.reset()
    LocalLauncher().run(task)
    assert results(task) == uninterrupted
    assert read_document(task.record_file, TrainingRecord).workers == 2

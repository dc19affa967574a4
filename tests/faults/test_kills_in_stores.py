"""kill -9 while a trial trains with all it has in a store: nobody reads a half object, and it goes on."""

import random
import signal
from pathlib import Path

import pytest

from optduel.components.core import DataError
from optduel.components.records import Records
from optduel.components.results import TrainingRecord, read_document
from optduel.components.storage import delete, list_entries, publish, read
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.faults.conftest import STEPS
from tests.faults.groups import Fault, launched, results
from tests.faults.stored_objects import reading
from tests.faults.stored_trials import stored_task
from tests.servers.places import PlaceOf

WORKERS = {"saving": 0, "training": 1, "validating": 0}
"""Which one is killed: the one that saves, or another."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "phases"),
    [
        pytest.param("gs", ["training", "saving", "validating"], marks=pytest.mark.exhaustive),
        pytest.param("s3", ["validating", "training", "saving"], marks=pytest.mark.exhaustive),
    ],
)
def test_kills_at_random_moments_leave_nothing_half_and_change_nothing(
    kind: str,
    phases: list[str],
    place_of: PlaceOf,
    records: Records,
    staging: Path,
    uninterrupted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = place_of(kind)
    # No proxy that might hold back what a dying writer sent.
    name = "STORAGE_EMULATOR_HOST" if kind == "gs" else "AWS_ENDPOINT_URL_S3"
    monkeypatch.setenv(name, place.proxy.upstream)
    dice = random.Random(kind)
    task = stored_task(records, place.root, workers=2)
    with reading(task.output) as seen, launched(task) as group:
        for number, phase in enumerate(phases, start=1):
            step = STEPS * number // 5 + dice.randrange(STEPS // 10)
            delay = dice.uniform(0, 0.02)
            group.inject(Fault(signal.SIGKILL, "trainer", WORKERS[phase], phase, step, delay))
            group.wait_for_restart(number)
        assert group.wait() == 0, group.text()
    assert group.text().count("goes on after step") == len(phases)
    assert results(task) == uninterrupted
    assert read_document(task.record_file, TrainingRecord).workers == 2
    assert seen == {"checkpoints", "history.jsonl", "tensorboard", "model.keras", "training.json"}
    (_,) = list_entries(task.events_folder)


@pytest.mark.slow
def test_damage_in_the_store_is_named_before_the_first_step(
    place_of: PlaceOf, records: Records, staging: Path, quick_starts: None
) -> None:
    task = stored_task(records, place_of("s3").root, workers=1)
    flipped, missing, shortened, one, other = (
        task.records.place(shard) for shard in task.records.manifest.splits["train"].shards[:5]
    )
    content = read(flipped)
    publish(flipped, content[:500] + bytes([content[500] ^ 1]) + content[501:])
    delete(missing)
    publish(shortened, read(shortened)[:-1])
    first, second = read(one), read(other)
    publish(one, second)
    publish(other, first)
    with pytest.raises(DataError) as raised:
        LocalLauncher().run(task)
    message = str(raised.value)
    for uri in (flipped, missing, shortened, one, other):
        assert f"{uri}: " in message
    assert list_entries(task.output) == []

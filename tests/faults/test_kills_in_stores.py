"""kill -9 while a trial trains with all it has in a store: nobody reads a half object, and it goes on."""

import io
import json
import random
import signal
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.core.errors import DataError, StorageError
from components.core.history import decode_history
from components.core.records import Records
from components.core.results import TrainingRecord, read_document
from components.core.storage import Upload, delete, list_entries, publish, read, stat, upload
from components.core.tfrecord import frame
from components.train.launch import LocalLauncher
from components.train.task import Task
from tests.faults.conftest import STEPS, make_task
from tests.faults.groups import Fault, history, launched
from tests.servers.places import PlaceOf

WORKERS = {"saving": 0, "training": 1}
"""Which one is killed: the one that saves, or another."""

PAUSE_SECONDS = 0.05
"""Between two looks at everything that is there."""


def store(records: Records, root: str) -> Records:
    """The same data set in a store."""
    stored = Records(location=f"{root}/records", manifest=records.manifest)
    shards = [shard for split in records.manifest.splits.values() for shard in split.shards]
    upload([Upload(records.path(shard), stored.place(shard)) for shard in shards])
    return stored


def stored_task(records: Records, root: str, workers: int) -> Task:
    """Workers whose records, checkpoints and results are in the store."""
    task = make_task(store(records, root), Path("unused"), workers=workers)
    return task.model_copy(update={"output": f"{root}/trial"})


def check_whole(uri: str, content: bytes) -> None:
    """Raises where an object is not what its name says."""
    name = uri.rpartition("/")[2]
    if name.endswith((".npz", ".keras")):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
    elif name.endswith(".json"):
        json.loads(content)
    elif name == "history.jsonl":
        assert decode_history(content, uri)
    else:
        length = int.from_bytes(content[:8], "little")
        assert frame(content[12 : 12 + length]) == content[: 16 + length], f"{uri}: no event file"


@contextmanager
def reading(folder: str) -> Iterator[set[str]]:
    """Reads whatever is in a folder again and again; yields the kinds of objects that were seen."""
    seen: set[str] = set()
    versions: dict[str, str] = {}
    ended = threading.Event()

    def look() -> None:
        for entry in list_entries(folder):
            if versions.get(entry.uri) == entry.version:
                continue
            try:
                content = read(entry.uri)
            except StorageError:
                if stat(entry.uri) is None:  # the oldest checkpoint goes when a new one has come
                    continue
                raise
            check_whole(entry.uri, content)
            versions[entry.uri] = entry.version
            seen.add(entry.uri.removeprefix(f"{folder}/").partition("/")[0])

    def go_on() -> None:
        while not ended.wait(PAUSE_SECONDS):
            look()
        look()

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(go_on)
        try:
            yield seen
        finally:
            ended.set()
        looking.result()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "phases"), [("gs", ["saving"]), ("s3", ["training"])])
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
            step = STEPS * number // 3 + dice.randrange(STEPS // 6)
            delay = dice.uniform(0, 0.02)
            group.inject(Fault(signal.SIGKILL, "trainer", WORKERS[phase], phase, step, delay))
            group.wait_for_restart(number)
        assert group.wait() == 0, group.text()
    assert group.text().count("goes on after step") == len(phases)
    assert history(task) == uninterrupted
    assert read_document(task.record_file, TrainingRecord).workers == 2
    assert seen == {"checkpoints", "history.jsonl", "tensorboard", "model.keras", "training.json"}
    (_,) = list_entries(task.events_folder)


@pytest.mark.slow
def test_damage_in_the_store_is_named_before_the_first_step(
    place_of: PlaceOf, records: Records, staging: Path
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

"""The tune stage: what it keeps, what it takes over, what it never looks at, and that kills lose little."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from optduel.components.core import LaunchError
from optduel.components.records import Records
from optduel.components.results import (
    TunedSettings,
    TunedTrial,
    code_version,
    read_document,
    run_folder,
    tuned_part,
)
from optduel.components.settings import canonical_json
from optduel.components.train.contract.task import Task
from optduel.components.tune.tune import tune_settings

SECTIONS = canonical_json(
    {
        "model": {"name": "linear"},
        "arm": {
            "name": "sgd",
            "optimizer": "sgd",
            "learning_rate": {"schedule": "constant", "base": 0.1},
            "search": {"learning_rate.base": {"scale": "log", "low": 0.001, "high": 1}},
        },
        "training": {"epochs": 3, "global_batch_size": 64},
        "compute": {"threads_per_worker": 1},
    }
)
TUNING = canonical_json({"trials": 4, "seeds": [100, 101], "tasks": 1})


class Refusing:
    """A launcher for settings that nobody has to train."""

    def run(self, task: Task) -> None:
        raise LaunchError(f"{task.name}: was trained again")


@pytest.fixture
def place(records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root with records that have lost their test split."""
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "of-this-test")
    code_version.cache_clear()
    folder = tmp_path / "digits"
    shutil.copytree(records.location, folder)
    for shard in records.manifest.splits["test"].shards:
        (folder / shard.file).unlink()
    moved = records.model_copy(update={"location": str(folder)})
    (tmp_path / "records.json").write_text(moved.canonical_json())
    yield tmp_path
    code_version.cache_clear()


def numbers_of(place: Path, run: str) -> str:
    """What the settings came to, without times."""
    found = read_document(tuned_part(run_folder(str(place), run), "sgd", 0), TunedSettings)
    return json.dumps(
        [
            [
                one.number,
                one.values,
                trial.seed,
                trial.steps,
                [row.reproducible() for row in trial.validation],
            ]
            for one in found.settings
            for trial in one.trials
        ]
    )


@pytest.mark.usefixtures("quick_starts")
def test_settings_are_tried_once_and_the_test_split_is_never_read(place: Path) -> None:
    files = place / "records.json", place / "metrics.json"
    told = tune_settings(SECTIONS, TUNING, "0", str(place), "one", *files)
    assert told["settings"] == 4
    assert json.loads(files[1].read_text()) == told
    kept = list((place / "tuned").iterdir())
    assert len(kept) == 8
    again = tune_settings(SECTIONS, TUNING, "0", str(place), "two", *files, lambda _: Refusing())
    assert again == told
    assert numbers_of(place, "one") == numbers_of(place, "two")
    more = json.loads(TUNING) | {"trials": 5}
    with pytest.raises(LaunchError, match="setting 5, seed 100 and 1 more: was trained again"):
        tune_settings(SECTIONS, json.dumps(more), "0", str(place), "three", *files, lambda _: Refusing())
    kept[0].write_text("{}")  # damaged: of that one no more is known
    with pytest.raises(LaunchError):
        tune_settings(SECTIONS, TUNING, "0", str(place), "four", *files, lambda _: Refusing())


CALL = """
import sys
from pathlib import Path
from optduel.components.tune.tune import tune_settings
place, run, sections, tuning = sys.argv[1:]
files = Path(place, "records.json"), Path(place, "metrics.json")
tune_settings(sections, tuning, "0", place, run, *files)
"""


@pytest.mark.exhaustive
def test_ten_kills_change_no_number_and_train_nothing_twice(place: Path) -> None:
    def begun(run: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", CALL, str(place), run, SECTIONS, TUNING]
        return subprocess.Popen(command, start_new_session=True, env=dict(os.environ))

    chance, ends = random.Random(5), {}
    for attempt in range(10):
        process = begun(f"run-{attempt}")
        time.sleep(chance.uniform(2, 12))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1)  # the trainer ends with its supervisor
        for path in (place / "tuned").glob("*.json"):
            ends.setdefault(path.name, path.stat().st_mtime_ns)
    assert begun("last").wait(300) == 0
    for name, moment in ends.items():
        assert (place / "tuned" / name).stat().st_mtime_ns == moment
        assert read_document(place / "tuned" / name, TunedTrial).steps == 60
    killed = numbers_of(place, "last")
    shutil.rmtree(place / "tuned")
    assert begun("whole").wait(300) == 0
    assert numbers_of(place, "whole") == killed

"""What every fault is measured against: a run of two workers that nothing disturbs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.records import Records
from optduel.components.settings import validate
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.faults.groups import results
from tests.forking.fixtures import started_by
from tests.made_once import made_once

EPOCHS = 15
STEPS = 20 * EPOCHS
"""Of a whole run; a fault at a later step cannot happen."""


def make_task(records: Records, output: Path, **compute: Any) -> Task:
    """A model that trains in seconds, checkpoints that fall within epochs, and a ragged last batch."""
    authored = {
        "model": {"name": "linear"},
        "arm": {
            "name": "adamw",
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "learning_rate": {"schedule": "cosine", "base": 0.001, "warmup_epochs": 1},
        },
        "training": {"epochs": EPOCHS, "global_batch_size": 64, "log_every_steps": 5},
        "compute": {
            "workers": 2,
            "threads_per_worker": 1,
            "checkpoint_steps": 7,
            "restarts": 20,
            "start_seconds": 120,
            "progress_seconds": 60,
        }
        | compute,
        "seed": 0,
        "records": records,
        "output": str(output),
    }
    return validate(Task, authored, "task")


@pytest.fixture(scope="session")
def uninterrupted(records: Records, tmp_path_factory: pytest.TempPathFactory, forking_python: str) -> str:
    """The history and the state that every run has to end with."""

    def run() -> str:
        task = make_task(records, tmp_path_factory.mktemp("uninterrupted"))
        with started_by(forking_python):
            LocalLauncher().run(task)
        return results(task)

    return made_once(tmp_path_factory, "uninterrupted", run)


@pytest.fixture
def task(records: Records, tmp_path: Path) -> Callable[..., Task]:
    """Makes tasks like the uninterrupted one; `compute` settings change no numbers."""

    def make(**compute: Any) -> Task:
        return make_task(records, tmp_path / "trial", **compute)

    return make

"""Records that the real writer made, and trials on them in real worker processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.records import Records
from optduel.components.results import Row, read_history
from optduel.components.settings import validate
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher

SGD = {
    "name": "sgd-l2",
    "optimizer": "sgd",
    "l2": 0.0005,
    "learning_rate": {"schedule": "cosine", "base": 0.01, "warmup_epochs": 1},
}
ADAMW = {
    "name": "adamw",
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "learning_rate": {"schedule": "step", "base": 0.001, "boundaries_epochs": [2], "factor": 0.1},
}
TUTORIAL = {"name": "tutorial_cnn"}
CNN = {"name": "cnn", "filters": [8, 8], "dropout": 0.3}


@pytest.fixture
def make_task(records: Records, tmp_path: Path) -> Callable[..., Task]:
    """Makes tasks in folders of their own."""

    def make(
        folder: str,
        arm: Any = SGD,
        model: Any = TUTORIAL,
        workers: int = 1,
        compute: dict[str, Any] | None = None,
        **training: Any,
    ) -> Task:
        authored = {
            "model": model,
            "arm": arm,
            "training": {"epochs": 3, "global_batch_size": 64, "log_every_steps": 7} | training,
            "compute": {"workers": workers, "threads_per_worker": 1} | (compute or {}),
            "seed": 0,
            "records": records,
            "output": str(tmp_path / folder),
        }
        return validate(Task, authored, "task")

    return make


@pytest.fixture
def run_task(quick_starts: None) -> Callable[[Task], tuple[Row, ...]]:
    """Runs a task in worker processes and returns its history."""

    def run(task: Task) -> tuple[Row, ...]:
        LocalLauncher().run(task)
        return read_history(task.history_file)

    return run


def reproducible(rows: tuple[Row, ...]) -> str:
    """A history without its timing columns, as text that can be compared bit for bit."""
    return json.dumps([row.reproducible() for row in rows])


NUMBERS = (
    "cross_entropy",
    "penalty",
    "total",
    "accuracy",
    "gradient_norm",
    "weight_norm",
    "learning_rate",
    "decay",
)


def largest_deviation(rows: tuple[Row, ...], others: tuple[Row, ...]) -> float:
    """Largest relative difference of any number in any row; the rows must be of the same events."""
    assert [(row.event, row.split, row.step, row.examples) for row in rows] == [
        (row.event, row.split, row.step, row.examples) for row in others
    ]
    pairs = [
        (getattr(one, name), getattr(other, name))
        for one, other in zip(rows, others, strict=True)
        for name in NUMBERS
    ]
    return max(abs(one - other) / max(abs(one), 1e-12) for one, other in pairs)

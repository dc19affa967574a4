"""What the train stage refuses before it starts a worker."""

from pathlib import Path
from typing import Any

import pytest

from optduel.components.core import ExperimentError
from optduel.components.records import Records
from optduel.components.settings import canonical_json, cautions
from optduel.components.train.contract.task import Task
from optduel.components.train.stage import train_trials
from optduel.pipeline.cli.shipped import load_experiment


class Launched(Exception):
    """The stage came as far as its launcher."""


class Launcher:
    def run(self, task: Task) -> None:
        raise Launched


def train(records: Records, batch: int, folder: Path) -> Any:
    digits = load_experiment("digits", [f"training.global_batch_size={batch}"])
    parts = {
        "model": digits.model,
        "arm": digits.arms[0],
        "training": digits.training,
        "compute": digits.compute,
    }
    sections = canonical_json({name: part.model_dump(mode="json") for name, part in parts.items()})
    document = folder / "records.json"
    document.write_text(records.canonical_json(), encoding="utf-8")
    files = document, str(folder / "models"), folder / "metrics.json"
    return train_trials(sections, "", "[0]", str(folder), *files, lambda _: Launcher())


def test_a_batch_larger_than_the_training_split_is_refused(records: Records, tmp_path: Path) -> None:
    images = records.manifest.splits["train"].records
    with pytest.raises(ExperimentError) as raised:
        train(records, images + 1, tmp_path)
    assert str(raised.value) == (
        f"training.global_batch_size = {images + 1}: is larger than the training split, which has "
        f"{images:,} images; take that many at most"
    )
    with pytest.raises(Launched):
        train(records, images, tmp_path)


def test_check_has_said_so_before() -> None:
    (caution,) = cautions(load_experiment("digits", ["training.global_batch_size=2000"]))
    assert caution.endswith("take that many at most. Training refuses it.")

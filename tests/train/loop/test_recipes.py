"""A whole recipe, augmentation to early stopping, on a residual network: one history in any case."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import scipy.special

from optduel.components.records import Records, SplitReader
from optduel.components.results import Row, epochs_of, read_history
from optduel.components.settings import validate
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.train.conftest import ADAMW, largest_deviation, reproducible
from tests.train.loop.test_resume import STOPPED

EVERYTHING = {
    "augmentation": {
        "flip": True,
        "crop_padding": 1,
        "brightness": 0.3,
        "contrast": 0.3,
        "cutout": 3,
        "mixup": 0.4,
    },
    "label_smoothing": 0.1,
    "clip_norm": 0.5,
    "moving_average": 0.95,
    # No epoch is so much better than the first one: the second one is the last, and the first one is kept.
    "early_stopping": {"metric": "accuracy", "patience": 1, "min_change": 0.9},
}
RESNET = {"name": "resnet", "depth": 8}
MakeTask = Callable[..., Task]
Run = Callable[[Task], tuple[Row, ...]]
PRECISIONS = pytest.mark.parametrize(
    "precision", ["float64", pytest.param("float32", marks=pytest.mark.exhaustive)]
)


@pytest.fixture(scope="module")
def make(records: Records, tmp_path_factory: pytest.TempPathFactory) -> MakeTask:
    folder = tmp_path_factory.mktemp("recipes")

    def made(name: str, precision: str, workers: int = 1, model: object = RESNET) -> Task:
        training = {"epochs": 4, "global_batch_size": 64, "log_every_steps": 7, "precision": precision}
        authored = {
            "model": model,
            "arm": ADAMW,
            "training": training | EVERYTHING,
            "compute": {"workers": workers, "threads_per_worker": 1},
            "seed": 0,
            "records": records,
            "output": str(folder / f"{name}-{precision}"),
        }
        return validate(Task, authored, "task")

    return made


@pytest.fixture
def run(quick_starts: None) -> Run:
    """The history of a task, which is trained unless it was before."""

    def history(task: Task) -> tuple[Row, ...]:
        if not Path(task.record_file).exists():
            LocalLauncher().run(task)
        return read_history(task.history_file)

    return history


@pytest.mark.exhaustive
@pytest.mark.slow
@PRECISIONS
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_have_one_history(workers: int, precision: str, make: MakeTask, run: Run) -> None:
    alone = run(make("alone", precision))
    assert epochs_of(alone, "train")[0].examples % 64, "the last batch must be ragged"
    together = run(make(f"by-{workers}", precision, workers))
    if precision == "float64":
        assert largest_deviation(alone, together) < 1e-9
    else:
        # In float32 rounding turns a ReLU on in one of them sooner or later, and their steps part from there.
        losses = [[row.cross_entropy for row in rows] for rows in (alone, together)]
        np.testing.assert_allclose(*losses, rtol=0.02)
        np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-4)


@pytest.mark.slow
@PRECISIONS
def test_a_trial_that_is_stopped_goes_on_with_the_same_bits(
    precision: str, make: MakeTask, run: Run, forking_python: str
) -> None:
    """Within the first epoch, and when the epoch that is kept is over."""
    whole, stopped = make("alone", precision), make("stopped", precision)
    expected = run(whole)
    stops = json.dumps([("training", 11), ("training", 27)])
    command = [forking_python, "-c", STOPPED, stopped.canonical_json(), stops]
    done = subprocess.run(command, check=True, timeout=400, stdout=subprocess.PIPE, text=True)
    assert 11 <= json.loads(done.stdout)[0] < 27 <= json.loads(done.stdout)[1] < 40
    assert reproducible(run(stopped)) == reproducible(expected)
    weights = [keras.saving.load_model(task.model_file).get_weights() for task in (whole, stopped)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_early_stopping_exports_the_average_of_the_best_epoch(
    make: MakeTask, run: Run, records: Records
) -> None:
    task = make("alone", "float64")
    validated = epochs_of(run(task), "validation")
    assert len(validated) == 2, "the trial must have ended early"
    reader = SplitReader(records, "validation")
    positions = np.arange(len(reader))
    shards = len(reader.shard_sizes)
    images, labels = reader.read(positions % shards, positions // shards)
    logits: Any = keras.saving.load_model(task.model_file, safe_mode=True).predict_on_batch(images)
    losses = -scipy.special.log_softmax(logits, axis=1)[positions, labels]
    found = [row.cross_entropy == pytest.approx(float(losses.mean()), rel=1e-4) for row in validated]
    assert found == [True, False]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_fine_tuning_has_one_history_and_leaves_what_is_frozen(
    make: MakeTask, run: Run, forking_python: str
) -> None:
    """From a model that was trained here, on two workers, and through a stop."""
    before = make("alone", "float64")
    run(before)
    start = Path(before.model_file)
    frozen = [layer for layer in keras.saving.load_model(start).layers if layer.weights][:2]
    model = {
        "name": "pretrained",
        "start": str(start),
        "sha256": hashlib.sha256(start.read_bytes()).hexdigest(),
        "freeze": frozen[-1].name,
        "dropout": 0.2,
        "head_rate": 5,
    }
    alone, stopped = make("tuned", "float64", 1, model), make("tuned-stopped", "float64", 1, model)
    expected = run(alone)
    assert largest_deviation(expected, run(make("tuned-by-2", "float64", 2, model))) < 1e-9
    command = [forking_python, "-c", STOPPED, stopped.canonical_json(), json.dumps([("training", 11)])]
    subprocess.run(command, check=True, timeout=400, stdout=subprocess.DEVNULL)
    assert reproducible(run(stopped)) == reproducible(expected)
    tuned = keras.saving.load_model(alone.model_file, safe_mode=True).get_weights()
    kept = [weight for layer in frozen for weight in layer.get_weights()]
    for one, other in zip(kept, tuned, strict=False):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(tuned[-1], np.zeros_like(tuned[-1]))

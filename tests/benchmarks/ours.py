"""optduel's own training, through the train stage's one call, with checkpoints on as they are for users."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optduel.components.core import OptduelError
from optduel.components.results import (
    Row,
    TrainingRecord,
    epochs_of,
    read_document,
    read_history,
    trial_folder,
)
from optduel.components.settings import canonical_json
from optduel.components.train.stage import train_trials
from optduel.pipeline.cli.shipped import load_experiment
from tests.benchmarks.rates import median_after_first
from tests.benchmarks.worker_processes import Memory, WorkerProcesses

ARM = "sgd-l2"
_SAMPLE_SECONDS = 0.05


def run(
    seed: int,
    folder: Path,
    experiment: str,
    records: str,
    assignments: Sequence[str],
    pinned: Sequence[int] = (),
    memory: bool = False,
) -> dict[str, Any]:
    """Trains the arm `sgd-l2` of a shipped experiment.

    Args:
        seed: of the trial.
        folder: for the model, its history and its checkpoints.
        experiment: its name.
        records: the Records document.
        assignments: as `optduel run --set` takes them.
        pinned: worker i runs on the i-th of these cores only.
        memory: sample the memory of the first worker.

    Returns:
        Times, rates and accuracies from the history, what the record says, and memory by epoch.
    """
    chosen = load_experiment(experiment, assignments)
    arm = next(arm for arm in chosen.arms if arm.name == ARM)
    parts = {"model": chosen.model, "arm": arm, "training": chosen.training, "compute": chosen.compute}
    sections = canonical_json({name: part.model_dump(mode="json") for name, part in parts.items()})
    files = Path(records), str(folder), folder / "metrics.json"
    output = Path(trial_folder(str(folder), seed))
    with WorkerProcesses(pinned) as workers, _MemorySampler(workers, output, memory) as sampler:
        train_trials(sections, "", f"[{seed}]", "", *files)
    if workers.seen_cores != [[core] for core in pinned]:
        raise RuntimeError(
            f"workers were to run on {list(pinned)}, threads were seen on {workers.seen_cores}"
        )
    rows = read_history(output / "history.jsonl")
    record = read_document(output / "training.json", TrainingRecord)
    rates = [row.examples_per_second for row in epochs_of(rows, "train")]
    accuracies = [row.accuracy for row in epochs_of(rows, "validation")]
    return {
        "training_seconds": _seconds_from_first_step(rows),
        "trial_seconds": record.seconds,
        "epoch_rates": rates,
        "images_per_second": median_after_first(rates),
        "validation_accuracies": accuracies,
        "validation_accuracy": accuracies[-1],
        "precision": record.precision,
        "worker_cores": workers.seen_cores,
        **sampler.result(),
    }


def _seconds_from_first_step(rows: Sequence[Row]) -> float:
    """From the start of the first step, compiling included, to the end of the last validation."""
    first = rows[0]
    return rows[-1].wall_seconds - first.wall_seconds + first.examples / first.examples_per_second


class _MemorySampler:
    """Samples the memory of a worker at the end of every epoch, which shows in its history."""

    def __init__(self, workers: WorkerProcesses, output: Path, is_wanted: bool) -> None:
        self._workers = workers
        self._history_file = output / "history.jsonl"
        self._is_wanted = is_wanted
        self._by_epoch: dict[int, Memory] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_MemorySampler":
        if self._is_wanted:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._is_wanted:
            self._thread.join()

    def result(self) -> dict[str, Any]:
        """Megabytes at the end of each epoch, and their growth per epoch after the first."""
        if not self._is_wanted:
            return {}
        epochs = sorted(self._by_epoch)
        samples = [self._by_epoch[epoch] for epoch in epochs]
        later = [epoch for epoch in epochs if epoch > 1]
        if len(later) < 2:
            raise RuntimeError(f"memory was seen at the end of the epochs {epochs}: too few for a slope")
        slope = np.polyfit(later, [self._by_epoch[epoch].anonymous for epoch in later], 1)[0]
        return {
            "epochs_seen": epochs,
            "anonymous_megabytes_by_epoch": [sample.anonymous for sample in samples],
            "file_megabytes_by_epoch": [sample.file for sample in samples],
            "anonymous_megabytes": samples[-1].anonymous,
            "file_megabytes": samples[-1].file,
            "peak_megabytes": max(sample.peak for sample in samples),
            "growth_megabytes_per_epoch": float(slope),
        }

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            memory = self._workers.memory()
            try:
                epochs = len(epochs_of(read_history(self._history_file), "validation"))
            except OptduelError:  # there is none yet
                continue
            if memory is not None and epochs:
                self._by_epoch.setdefault(epochs, memory)

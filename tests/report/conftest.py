"""Plausible finished studies, made without training: what the report stage is given."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.records import Duplicates, Manifest, Records, RecordsSplit, Skipped
from optduel.components.report.render import Report, build_report
from optduel.components.results import Comparison, Environment, Row, TrainingRecord, Trial, Trials
from optduel.components.settings import Experiment, validate
from tests.compare.conftest import compared

ENVIRONMENT = Environment(
    code_version="1f3a9c0d2b7e",
    python="3.11.9",
    platform="Linux-6.1.0-x86_64-with-glibc2.36",
    processor="AMD EPYC 7B13",
    cores=2,
    packages={"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6", "kfp": "2.17.0"},
)

SGD = {
    "name": "sgd-l2",
    "optimizer": "sgd",
    "l2": 0.0005,
    "learning_rate": {"schedule": "cosine", "base": 0.05, "warmup_epochs": 1},
}
ADAMW = {
    "name": "adamw",
    "optimizer": "adamw",
    "weight_decay": 0.2,
    "learning_rate": {"schedule": "cosine", "base": 0.002, "warmup_epochs": 1},
}


@dataclasses.dataclass(frozen=True)
class FinishedStudy:
    """What the report is built from."""

    experiment: Experiment
    records: Records
    trials: Trials
    comparison: Comparison

    def report(self) -> Report:
        return build_report(self.experiment, self.records, self.trials, self.comparison)

    def with_experiment(self, **fields: Any) -> "FinishedStudy":
        return dataclasses.replace(self, experiment=self.experiment.model_copy(update=fields))


def finished_study(
    arms: tuple[dict[str, Any], ...] = (SGD, ADAMW),
    seeds: int = 6,
    epochs: int = 8,
    classes: tuple[str, ...] = tuple("0123456789"),
    split: str = "test",
    gain: float = 0.35,
    examples: int = 360,
    skipped: tuple[Skipped, ...] = (),
    conflicting: tuple[str, ...] = (),
) -> FinishedStudy:
    """Every later arm is better than the one before by `gain` on the logit scale."""
    experiment = validate(
        Experiment,
        {
            "name": "digits",
            "title": "SGD + L2 against AdamW on handwritten digits",
            "data": {
                "source": {"kind": "digits"},
                "image_size": [8, 8],
                "channels": 1,
                "split": {"train": 0.7, "validation": 0.1, "test": 0.2}
                if split == "test"
                else {"train": 0.8, "validation": 0.2, "test": 0},
            },
            "model": {"name": "tutorial_cnn"},
            "arms": list(arms),
            "training": {"epochs": epochs, "global_batch_size": 64},
            "study": {"seeds": list(range(seeds))},
        },
        "fixture",
    )
    records = _records(classes, split, examples, skipped, conflicting)
    generator = np.random.default_rng(7)
    luck = generator.normal(0, 0.05, seeds)
    trials = Trials(
        trials=tuple(
            _trial(
                arm.name,
                seed,
                1.5 + gain * index + luck[seed],
                getattr(arm, "l2", 0) > 0,
                epochs,
                records,
                split,
                generator,
            )
            for index, arm in enumerate(experiment.arms)
            for seed in experiment.study.seeds
        )
    )
    comparison = compared(experiment.study, [arm.name for arm in experiment.arms], trials)
    return FinishedStudy(experiment, records, trials, comparison)


def _records(
    classes: tuple[str, ...],
    split: str,
    examples: int,
    skipped: tuple[Skipped, ...],
    conflicting: tuple[str, ...],
) -> Records:
    totals = {"train": 3.5 * examples, "validation": 0.5 * examples, "test": examples}
    if split == "validation":
        totals = {"train": 4 * examples, "validation": examples}
    splits = {}
    for name, total in totals.items():
        counts = tuple(
            int(total) // len(classes) + (index < int(total) % len(classes)) for index in range(len(classes))
        )
        splits[name] = RecordsSplit(records=sum(counts), class_counts=counts, shards=())
    return Records(
        location="/data/digits/0f",
        manifest=Manifest(
            name="digits",
            fingerprint="0f" * 32,
            source="scikit-learn's 1,797 handwritten digits",
            classes=classes,
            image_shape=(8, 8, 1),
            encoding="raw",
            example_bytes=100,
            image_offset=36,
            label_offset=20,
            splits=splits,
            skipped=skipped,
            duplicates=Duplicates(groups=2, images=5, conflicting=conflicting),
        ),
    )


def _trial(
    arm: str,
    seed: int,
    skill: float,
    penalized: bool,
    epochs: int,
    records: Records,
    split: str,
    generator: np.random.Generator,
) -> Trial:
    manifest = records.manifest
    counts = manifest.splits[split].class_counts
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = generator.normal(0, 1, (len(labels), len(counts)))
    logits[np.arange(len(labels)), labels] += 2 * skill
    logits[labels == 0, -1] += 1  # one confusion that stands out
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    model = f"{seed:02x}{len(arm):02x}" * 16
    evaluation = evaluate_probabilities(probabilities, labels, manifest.classes, 0.95)
    return Trial(
        training=TrainingRecord(
            arm=arm,
            seed=seed,
            fingerprint="f" * 64,
            data_fingerprint=manifest.fingerprint,
            model_sha256=model,
            parameters=77_706,
            precision="float32",
            workers=1,
            replicas=1,
            started=f"2026-11-23T10:{seed:02d}:00+00:00",
            seconds=12.4 + seed,
            environment=ENVIRONMENT,
        ),
        history=tuple(_history(epochs, skill, penalized, seed, manifest)),
        evaluation=evaluation.as_evaluation(arm, seed, split, model),
        model="model.keras",
    )


def _history(epochs: int, skill: float, penalized: bool, seed: int, manifest: Manifest) -> list[Row]:
    constant = {"learning_rate": 0.01, "decay": 1e-5, "gradient_norm": 1, "weight_norm": 10}
    rows = []
    generator = np.random.default_rng(seed)
    for epoch in range(1, epochs + 1):
        for split, floor in (("train", 0.05), ("validation", 0.18)):
            cross_entropy = floor + 2.2 * math.exp(-0.5 * skill * epoch) * generator.uniform(0.9, 1.1)
            penalty = 0.12 + 0.01 * epoch if penalized else 0.0
            measured = {
                "examples": manifest.splits[split].records,
                "cross_entropy": cross_entropy,
                "penalty": penalty,
                "total": cross_entropy + penalty,
                "accuracy": max(0.99 - cross_entropy / 2.5, 0.05),
                "examples_per_second": 5_000,
                "wall_seconds": 1.5 * epoch,
            }
            rows.append(Row(event="epoch", split=split, step=20 * epoch, epoch=epoch, **measured, **constant))
        rows.append(rows[-2].model_copy(update={"event": "step", "cross_entropy": 99.0, "total": 99.0}))
    return rows


@pytest.fixture(scope="session")
def make_study() -> Callable[..., FinishedStudy]:
    return finished_study


@pytest.fixture(scope="session")
def study() -> FinishedStudy:
    return finished_study()


@pytest.fixture(scope="session")
def report(study: FinishedStudy) -> Report:
    return study.report()

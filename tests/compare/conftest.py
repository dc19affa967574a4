"""Trials with given final metrics, and everything else just valid."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from optduel.components.compare.compare import compare_arms
from optduel.components.results import (
    Comparison,
    Environment,
    Evaluation,
    Interval,
    Predictions,
    TrainingRecord,
    Trial,
    Trials,
)
from optduel.components.settings import Study

PREDICTED = 200
"""Images that trials with given metrics predict."""


def foretold(trial: Trial) -> Predictions:
    """Predictions of two classes with about the trial's accuracy, right on images that its seed draws."""
    evaluation = trial.evaluation
    right = np.random.default_rng(evaluation.seed).permutation(PREDICTED) < round(
        evaluation.accuracy.value * PREDICTED
    )
    labels = np.arange(PREDICTED) % 2
    sure = 0.9 - 0.01 * evaluation.cross_entropy.value
    of_label = np.where(right, sure, 1 - sure)
    probabilities = np.where(labels[:, None] == [0, 1], of_label[:, None], 1 - of_label[:, None])
    return Predictions(
        arm=evaluation.arm,
        seed=evaluation.seed,
        split=evaluation.split,
        model_sha256=evaluation.model_sha256,
        classes=("a", "b"),
        examples=tuple(str(number) for number in range(PREDICTED)),
        labels=labels,
        probabilities=probabilities,
    )


def compared(study: Study, arms: Sequence[str], trials: Trials) -> Comparison:
    """The comparison of trials whose predictions are `foretold`."""
    predictions = {(one.training.arm, one.training.seed): foretold(one) for one in trials.trials}
    return compare_arms(study, arms, trials, predictions)


ENVIRONMENT = Environment(
    code_version="1", python="3.11", platform="Linux", processor="cpu", cores=2, packages={}
)


@pytest.fixture
def make_trial() -> Callable[..., Trial]:
    def make(
        arm: str,
        seed: int,
        accuracy: float = 0.9,
        cross_entropy: float = 0.3,
        split: str = "test",
        examples: int = 10_000,
        half_width: float = 0.005,
    ) -> Trial:
        model = f"{arm}-{seed}"
        return Trial(
            training=TrainingRecord(
                arm=arm,
                seed=seed,
                fingerprint="f" * 64,
                data_fingerprint="d" * 64,
                model_sha256=model,
                parameters=10,
                precision="float32",
                workers=1,
                replicas=1,
                started="2026-11-23T10:00:00+00:00",
                seconds=1,
                environment=ENVIRONMENT,
            ),
            history=(),
            evaluation=Evaluation(
                arm=arm,
                seed=seed,
                split=split,
                examples=examples,
                accuracy=Interval(value=accuracy, low=accuracy - half_width, high=accuracy + half_width),
                cross_entropy=Interval(value=cross_entropy, low=0, high=1),
                macro_f1=0.9,
                macro_area_under_roc=None,
                classes=(),
                confusion=(),
                calibration=(),
                expected_calibration_error=0,
                model_sha256=model,
            ),
            model="model.keras",
        )

    return make


@pytest.fixture
def make_trials(make_trial: Callable[..., Trial]) -> Callable[..., Trials]:
    """Trials with seeds 0, 1, ... from the values of one metric, a sequence for each arm."""

    def make(
        values: dict[str, Sequence[float]], metric: str = "accuracy", split: str = "test", **fields: float
    ) -> Trials:
        return Trials(
            trials=tuple(
                make_trial(arm, seed, split=split, **{metric: value}, **fields)
                for arm, column in values.items()
                for seed, value in enumerate(column)
            )
        )

    return make

"""The compiled part: traced once, sums that do not depend on how steps are grouped, workers that agree."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from optduel.components.records import Records, SplitReader
from optduel.components.settings import Arm, Model, Training, validate
from optduel.components.train.model.batches import BatchSampler, distribute, training_sampler
from optduel.components.train.model.engine import Decision, Engine, Totals, Wishes, is_agreed
from optduel.components.train.model.layer_sets import TrainingLayers
from optduel.components.train.model.layers import BatchDropout
from optduel.components.train.model.models import build_model
from optduel.components.train.model.optimizers import Optimizer
from tests.train.conftest import ADAMW, CNN, SGD

GO_ON = Wishes(stop=False, pace=5)


class Bench:
    """An engine with a model of its own and batches from real records, ragged last ones included."""

    def __init__(
        self, records: Records, rate: float = 0.001, arm: dict[str, Any] = ADAMW, **recipe: Any
    ) -> None:
        reader = SplitReader(records, "train")
        training = validate(Training, {"epochs": 2, "global_batch_size": 64} | recipe, "training")
        self.sampler: BatchSampler = training_sampler(reader, training, 0)
        strategy = tf.distribute.get_strategy()
        keras.utils.set_random_seed(0)
        manifest = records.manifest
        model = build_model(
            validate(Model, CNN, "model"), manifest.image_shape, len(manifest.classes), TrainingLayers(64)
        )
        schedule = {"schedule": "constant", "base": rate}
        self.arm = validate(Arm, arm | {"learning_rate": schedule}, "arm")
        self.optimizer = optimizer = Optimizer(
            self.arm, model.trainable_variables, self.sampler.epoch_steps, 2 * self.sampler.epoch_steps
        )
        self.engine = Engine(strategy, model, optimizer, 0, training)
        self.done = 0
        self.batches: Any = distribute(strategy, reader, self.sampler, 0, 2 * self.sampler.epoch_steps, [])

    def train(self, steps: int, totals: Totals, wishes: Wishes = GO_ON) -> Any:
        trained = self.engine.train(self.batches, self.done, steps, totals, wishes)
        self.done += trained.steps
        return trained


def test_no_step_after_the_first_is_traced(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a ragged batch nor a call with another number of steps, nor another setting or seed."""
    calls: list[object] = []
    call = BatchDropout.call
    monkeypatch.setattr(
        BatchDropout,
        "call",
        lambda self, *args, **options: calls.append(self) or call(self, *args, **options),
    )
    bench = Bench(records)
    trained = bench.train(1, Totals())
    traces = len(calls)
    assert traces
    for steps in (1, 2, 16, 7, 13):
        trained = bench.train(steps, trained.totals, Wishes(stop=False, pace=steps))
        bench.engine.seed += 1
        bench.optimizer.begin(bench.arm.model_copy(update={"weight_decay": 0.1 / steps, "beta_1": 0.5}))
    assert trained.totals.steps == 2 * bench.sampler.epoch_steps
    assert trained.totals.examples == 2 * bench.sampler.example_count
    assert len(calls) == traces


def test_sums_do_not_depend_on_the_grouping_of_steps(records: Records) -> None:
    results = []
    for grouping in ((12,), (1, 4, 7)):
        bench, totals = Bench(records), Totals()
        for steps in grouping:
            trained = bench.train(steps, totals)
            totals = trained.totals
        results.append((totals, trained.gradient_norm))
    assert results[0] == results[1]


def test_a_wish_to_stop_ends_after_the_step(records: Records) -> None:
    trained = Bench(records).train(10, Totals(), Wishes(stop=True, pace=3))
    assert (trained.steps, trained.decision, trained.pace) == (1, Decision.STOP, 3)


def test_the_first_step_that_is_not_finite_is_the_last(records: Records) -> None:
    trained = Bench(records, rate=1e38).train(20, Totals())
    assert trained.decision is Decision.NOT_FINITE
    assert 1 < trained.steps < 20
    assert not np.isfinite(trained.gradient_norm + sum(trained.totals.values))


def test_one_worker_agrees_with_itself(records: Records) -> None:
    assert is_agreed(tf.distribute.get_strategy(), "the same text")


def test_gradients_are_clipped_to_the_norm_and_told_as_they_were(records: Records) -> None:
    """Of plain SGD with a rate of 1 the first step is the gradient."""
    moved = {}
    for clip in (None, 1e-3):
        bench = Bench(records, 1, SGD | {"momentum": 0}, clip_norm=clip)
        before = [variable.numpy() for variable in bench.optimizer.variables]
        trained = bench.train(1, Totals())
        steps = [
            old - variable.numpy() for old, variable in zip(before, bench.optimizer.variables, strict=True)
        ]
        moved[clip] = trained.gradient_norm, np.sqrt(sum((step**2).sum() for step in steps))
    (norm, length), (clipped_norm, clipped_length) = moved.values()
    assert norm == clipped_norm
    assert norm > 1e-3
    assert length == pytest.approx(norm, rel=1e-3)
    assert clipped_length == pytest.approx(1e-3, rel=1e-2)

"""One trial from first step to exported model, in one worker process; every worker runs the same lines.

`train` is the order of things: records, precision, model, resume, steps and validation, export. What is
compiled is in `engine`, what the chief writes while steps are done is in `recorder`.
"""

import contextlib
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from optduel.components.core import LaunchError, OptduelError, StoppedError, say
from optduel.components.records import SplitReader
from optduel.components.results import Divergence, Row, TrainingRecord, environment, now, write_document
from optduel.components.settings import canonical_json
from optduel.components.train.contract.control import STAGING, STARTING, Control
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import checkpoint
from optduel.components.train.loop.arrival import Arrival
from optduel.components.train.loop.export import export
from optduel.components.train.loop.recorder import Recorder
from optduel.components.train.loop.state import (
    State,
    named_variables,
    named_weights,
    training_row,
    validation_row,
)
from optduel.components.train.model.averaging import MovingAverage
from optduel.components.train.model.batches import (
    distribute,
    training_sampler,
    validation_sampler,
)
from optduel.components.train.model.engine import (
    MOST_STEPS,
    Decision,
    Engine,
    Totals,
    Wishes,
    is_agreed,
    minima,
)
from optduel.components.train.model.layer_sets import TrainingLayers
from optduel.components.train.model.models import build_model, rate_multipliers
from optduel.components.train.model.optimizers import Optimizer
from optduel.components.train.model.precision import resolve_precision

CALL_SECONDS = 1.0
"""Steps of about this duration are done between two looks at the clock, at progress and at stop requests."""

_BEST = "best"
"""How the names of the best epoch's weights begin in a checkpoint."""


def train(task: Task, strategy: tf.distribute.Strategy, control: Control) -> None:
    """Trains a trial, or goes on from its last checkpoint; the chief writes what the task's docstring lists.

    A trial that diverges ends well, too, and without a model: that it did is its result.

    Raises:
        DataError: a shard differs from the manifest, now or while training.
        ExperimentError: the experiment cannot be trained on these records with these workers.
        StorageError: a shard cannot be read, or a result cannot be written.
        LaunchError: the workers do not see the same checkpoints or records.
        StoppedError: `control` asked for a stop, and the trial is saved.
    """
    started, clock = now(), time.perf_counter()
    worker = strategy.cluster_resolver.task_id if strategy.cluster_resolver else 0
    training, manifest = task.training, task.records.manifest
    control.report(STARTING, 0)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optduel-")))

        # --- records: those of training have to be there, those of validation may still arrive -----------
        arrival = Arrival(task, worker, control, partial(minima, strategy))
        staged = stack.enter_context(arrival.stage(STAGING))
        threads = task.compute.threads_per_worker
        readers = {split: SplitReader(staged, split, threads) for split in ("train", "validation")}
        sampler = training_sampler(readers["train"], training, task.seed)
        held_out_sampler = validation_sampler(readers["validation"], training)
        total_steps = sampler.epoch_steps * training.epochs
        arrival.wait(staged, "train", STAGING, 0)

        # --- precision: the one in which the trial began, wherever it goes on ----------------------------
        identity = canonical_json(task.model_dump(mode="json", exclude={"compute", "records", "output"}))
        identity = f"{identity} {manifest.fingerprint}"
        found = checkpoint.latest(task.checkpoint_folder, identity)
        precision = resolve_precision(training.precision, strategy)
        state = State.from_json(found.state) if found else State(precision=precision)
        if state.precision != precision and worker == 0:
            say(f"train {task.name}: began in {state.precision} and stays there; auto is {precision} here")
        precision = state.precision

        # --- model and optimizer: weights drawn from the seed, so that the arms of a seed start alike ----
        keras.config.set_dtype_policy(precision)
        keras.utils.set_random_seed(task.seed)
        layers = TrainingLayers(training.global_batch_size)

        def built() -> keras.Model:
            return build_model(task.model, manifest.image_shape, len(manifest.classes), layers)

        with strategy.scope():
            model, average = built(), None
            if training.moving_average:
                average = MovingAverage(model, built(), training.moving_average)
            weights = model.trainable_variables
            rates = rate_multipliers(task.model, [weight.path for weight in weights])
            optimizer = Optimizer(task.arm, weights, sampler.epoch_steps, total_steps, rates)
            engine = Engine(strategy, model, optimizer, task.seed, training, average)
        variables = named_variables(model, optimizer, average)
        kept: dict[str, np.ndarray] = {}  # the best epoch's weights

        # --- resume: from the newest whole checkpoint of this very trial, the same on all workers --------
        if found:
            for name, variable in variables.items():
                variable.assign(found.arrays[name])
            kept |= {name: array for name, array in found.arrays.items() if name not in variables}
            if worker == 0:
                say(f"train {task.name}: goes on after step {found.step} of {total_steps}")
        if not is_agreed(strategy, f"{state.step} {state.epochs} {precision} {identity}"):
            raise LaunchError(
                f"train {task.name}: workers differ in checkpoint (here step {state.step}, {state.epochs} "
                f"epochs done), records or precision (here {precision}); give them one {task.output}"
            )
        recorder = Recorder(task, identity, state.rows, scratch) if worker == 0 else None
        told = {
            "arm": task.arm.name,
            "seed": task.seed,
            "fingerprint": task.fingerprint,
            "data_fingerprint": manifest.fingerprint,
            "parameters": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
            "precision": precision,
            "workers": task.compute.workers,
            "replicas": strategy.num_replicas_in_sync,
            "started": started,
            "environment": environment(),
        }
        journal = _Journal(task, control, recorder, engine, optimizer, variables, kept, state, clock, told)
        errors: list[OptduelError] = []
        batches = distribute(strategy, readers["train"], sampler, state.step, total_steps, errors)
        first, last = (epochs * held_out_sampler.epoch_steps for epochs in (state.epochs, training.epochs))
        held_out = distribute(strategy, readers["validation"], held_out_sampler, first, last, errors)
        stack.enter_context(_causes_first(errors))
        stack.enter_context(contextlib.suppress(_Diverged))

        has_validated = False
        pace = wished_pace = 1  # steps in a call, of about `CALL_SECONDS`
        while not state.is_over(training):
            # --- optimizer steps, up to the end of the epoch ---------------------------------------------
            epoch_end = (state.epochs + 1) * sampler.epoch_steps
            while state.step < epoch_end:
                next_row = min(epoch_end, _next_multiple(training.log_every_steps, state.step))
                next_save = _next_multiple(task.compute.checkpoint_steps or total_steps, state.step)
                steps = min(pace, next_row - state.step, next_save - state.step)
                call_clock = time.perf_counter()
                wishes = Wishes(control.is_stop_requested, wished_pace)
                trained = engine.train(batches, state.step, steps, state.interval, wishes)
                seconds = time.perf_counter() - call_clock
                state.add_steps(trained, seconds)
                if trained.decision is Decision.NOT_FINITE:
                    raise journal.diverged("loss or gradient")
                pace, wished_pace = trained.pace, _paced(trained.pace, trained.steps, seconds)
                control.report("training", state.step)
                if state.step == next_row:
                    journal.end_interval(trained.gradient_norm)
                if trained.decision is Decision.STOP:
                    raise journal.stopped()
                if recorder and recorder.is_checkpoint_due(state.step):
                    journal.save()

            # --- validation of the epoch's weights -------------------------------------------------------
            if not has_validated:
                arrival.wait(staged, "validation", "receiving", state.step)
                has_validated = True
            measured, done, validation_clock = Totals(), 0, time.perf_counter()
            validation_pace = wished_validation_pace = 1
            while done < held_out_sampler.epoch_steps:
                steps = min(validation_pace, held_out_sampler.epoch_steps - done)
                call_clock = time.perf_counter()
                wishes = Wishes(control.is_stop_requested, wished_validation_pace)
                validated = engine.validate(held_out, steps, measured, wishes)
                seconds = time.perf_counter() - call_clock
                measured, done = validated.totals, done + validated.steps
                control.report("validating", state.step)
                if validated.decision is Decision.NOT_FINITE:
                    raise journal.diverged("validation loss")
                if validated.decision is Decision.STOP:
                    raise journal.stopped()
                validation_pace = validated.pace
                wished_validation_pace = _paced(validated.pace, validated.steps, seconds)
            journal.end_epoch(measured, time.perf_counter() - validation_clock)
            journal.save()

        # --- export: the chief publishes the model and, last, the record that makes the trial complete ---
        if recorder:
            control.report("exporting", state.step)
            recorder.finish(state.rows)
            if state.epochs < training.epochs:
                say(f"train {task.name}: ends early, after epoch {state.epochs}; best was {state.best_epoch}")
            for name, variable in named_weights(_BEST, engine.validated).items() if kept else ():
                variable.assign(kept[name])
            model_sha256 = export(task, engine.validated, scratch)
            exported = {"model_sha256": model_sha256, "seconds": journal.wall_seconds()}
            write_document(task.record_file, TrainingRecord.model_validate(told | exported))


class _Diverged(Exception):
    """Ends the steps of a trial that has diverged, on every worker at the same one."""


class _Journal:
    """What is noted while a trial trains: rows of the history, checkpoints, and the words for its end.

    Args:
        recorder: the chief's; other workers have none, and note in their state only.
        kept: receives the weights of the epoch that early stopping holds for the best, with the chief.
        clock: `time.perf_counter()` at the start of this attempt.
        told: what the trial's record says of every trial, but for the time it took.
    """

    def __init__(
        self,
        task: Task,
        control: Control,
        recorder: Recorder | None,
        engine: Engine,
        optimizer: Optimizer,
        variables: Mapping[str, Any],
        kept: dict[str, np.ndarray],
        state: State,
        clock: float,
        told: Mapping[str, object],
    ) -> None:
        self._task = task
        self._control = control
        self._recorder = recorder
        self._engine = engine
        self._optimizer = optimizer
        self._variables = variables
        self._kept = kept
        self._state = state
        self._clock = clock
        self._told = told

    def wall_seconds(self) -> float:
        """Spent on this trial, earlier attempts up to their last checkpoint included."""
        return self._state.wall_seconds + time.perf_counter() - self._clock

    def end_interval(self, gradient_norm: float) -> None:
        """Makes a row of the steps since the last one. Raises _Diverged where weights are not finite."""
        state = self._state
        state.rows.append(self._row("step", state.interval, gradient_norm, state.interval_seconds))
        state.close_interval()
        if self._recorder:
            self._recorder.record(state.rows, 1)

    def end_epoch(self, measured: Totals, seconds: float) -> None:
        """Makes the epoch's two rows.

        Args:
            measured: over the validation split.
            seconds: that this took.

        Raises:
            _Diverged: weights or penalty are not finite.
        """
        state = self._state
        trained = self._row("epoch", state.epoch, state.rows[-1].gradient_norm, state.epoch_seconds)
        penalty = self._finite("penalty", self._engine.penalty())
        state.rows += [trained, validation_row(trained, measured, penalty, seconds)]
        epoch_seconds = state.epoch_seconds + seconds
        state.close_epoch()
        rule = self._task.training.early_stopping
        if rule and state.is_best(rule) and self._recorder:
            weights = named_weights(_BEST, self._engine.validated)
            self._kept |= {name: variable.numpy() for name, variable in weights.items()}
        if self._recorder:
            self._recorder.record(state.rows, 2)
            left = (self._task.training.epochs - state.epochs) * epoch_seconds
            self._recorder.tell_epoch(state.rows, left)

    def save(self) -> None:
        """Saves all that the trial needs to go on from here. Raises _Diverged where it has diverged."""
        # The last step was measured before it changed the weights.
        self._finite("weight norm", self._engine.weight_norm())
        if self._recorder:
            state = self._state
            self._control.report("saving", state.step)
            self._recorder.save(state.step, self._variables, self._kept, state.to_json(self.wall_seconds()))

    def stopped(self) -> StoppedError:
        """Saves, and gives the error that ends a trial on request."""
        self.save()
        if self._recorder:
            self._recorder.finish(self._state.rows)
        return StoppedError(
            f"train {self._task.name}: stopped on request, saved after step {self._state.step}"
        )

    def diverged(self, reason: str) -> _Diverged:
        """Writes the history but no checkpoint, and the record; gives what ends the steps."""
        state = self._state
        if self._recorder:
            self._recorder.finish(state.rows)
            ended = {"epoch": state.epochs + 1, "step": state.step, "reason": reason}
            divergence = Divergence.model_validate({**self._told, **ended, "seconds": self.wall_seconds()})
            write_document(self._task.record_file, divergence)
            say(
                f"train {self._task.name}: diverged, and ends here: {divergence.text}; where that was not "
                f"expected, lower learning_rate.base = {self._task.arm.learning_rate.base:g} or lengthen its "
                "warmup_epochs"
            )
        return _Diverged(reason)

    def _row(
        self, event: Literal["step", "epoch"], totals: Totals, gradient_norm: float, seconds: float
    ) -> Row:
        last_step = self._state.step - 1
        return training_row(
            totals,
            seconds,
            event=event,
            step=self._state.step,
            epoch=self._state.epochs + 1,
            learning_rate=self._optimizer.learning_rate(last_step),
            decay=self._optimizer.decay(last_step),
            gradient_norm=gradient_norm,
            weight_norm=self._finite("weight norm", self._engine.weight_norm()),
            wall_seconds=self.wall_seconds(),
        )

    def _finite(self, what: str, value: float) -> float:
        if not math.isfinite(value):
            raise self.diverged(what)
        return value


@contextlib.contextmanager
def _causes_first(errors: Sequence[OptduelError]) -> Iterator[None]:
    """Raises what was met while reading ahead, of which TensorFlow's own error is but a text."""
    try:
        yield
    except tf.errors.OpError as error:
        if errors:
            raise errors[0] from error
        raise


def _next_multiple(number: int, step: int) -> int:
    """The first multiple after `step`."""
    return (step // number + 1) * number


def _paced(pace: int, steps: int, seconds: float) -> int:
    """Steps to wish for; grows slowly, because a first call traces and compiles."""
    return max(1, min(2 * pace, int(steps * CALL_SECONDS / seconds), MOST_STEPS))

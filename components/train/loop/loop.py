"""One trial from first step to exported model, in one worker process; every worker runs the same lines.

The order of things: records, model, resume, steps, export. What is compiled is in `engine`, what the chief
writes while steps are done is in `recorder`.
"""

import contextlib
import math
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optduel.components.core import LaunchError, OptduelError, StoppedError, StorageError, TrainingError, say
from optduel.components.records import SplitReader, StagedRecords
from optduel.components.results import Row, TrainingRecord, environment, now, write_document
from optduel.components.settings import canonical_json
from optduel.components.train.contract.control import STAGING, STARTING, Control
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import checkpoint
from optduel.components.train.loop.export import export
from optduel.components.train.loop.recorder import Recorder
from optduel.components.train.loop.state import State, named_variables, training_row, validation_row
from optduel.components.train.model.batches import (
    distribute,
    own_shards,
    stage_own_shards,
    training_plan,
    validation_plan,
)
from optduel.components.train.model.engine import Engine, Totals, Verdict, Wishes
from optduel.components.train.model.models import TrainingLayers, build_model
from optduel.components.train.model.optimizers import Optimizer
from optduel.components.train.model.precision import resolve_precision

CALL_SECONDS = 1.0
"""Steps of about this duration are done between two looks at the clock, at progress and at stop requests."""


def train(task: Task, strategy: tf.distribute.Strategy, control: Control) -> None:
    """Trains a trial, or goes on from its last checkpoint; the chief writes what the task's docstring lists.

    Raises:
        DataError: a shard differs from the manifest, now or while training.
        ExperimentError: the experiment cannot be trained on these records with these workers.
        TrainingError: a loss, a gradient or the weights' norm is not finite.
        StorageError: a shard cannot be read, or a result cannot be written.
        LaunchError: the workers do not see the same checkpoints or records.
        StoppedError: `control` asked for a stop, and the trial is saved.
    """
    started = now()
    resolver = strategy.cluster_resolver
    worker = 0 if resolver is None else resolver.task_id
    control.report(STARTING, 0)
    with tempfile.TemporaryDirectory(prefix="optduel-") as scratch, stage_own_shards(task, worker) as staged:
        trial = _Trial(task, strategy, control, worker, staged)
        trial.resume(Path(scratch))
        try:
            while trial.state.epochs < task.training.epochs:
                if trial.state.step < trial.epoch_end:
                    trial.train_for_a_while()
                else:
                    trial.validate()
        except tf.errors.OpError as error:
            if trial.errors:
                raise trial.errors[0] from error
            raise
        if worker == 0:
            control.report("exporting", trial.state.step)
            trial.recorder.finish(trial.state.rows)
            model_sha256 = export(task, trial.model, Path(scratch))
            record = TrainingRecord(
                arm=task.arm.name,
                seed=task.seed,
                fingerprint=task.fingerprint,
                data_fingerprint=task.records.manifest.fingerprint,
                model_sha256=model_sha256,
                parameters=sum(int(np.prod(variable.shape)) for variable in trial.model.trainable_variables),
                precision=trial.precision,
                workers=task.compute.workers,
                replicas=strategy.num_replicas_in_sync,
                started=started,
                seconds=trial.wall_seconds(),
                environment=environment(),
            )
            write_document(task.record_file, record)


class _Trial:
    """A trial at work.

    Attributes:
        state: where it is.
        model: being trained.
        precision: the dtype policy that it is trained with.
        errors: what was met while reading ahead.
        recorder: the chief's; other workers have none.
    """

    recorder: Recorder

    def __init__(
        self,
        task: Task,
        strategy: tf.distribute.Strategy,
        control: Control,
        worker: int,
        staged: StagedRecords,
    ) -> None:
        self.task = task
        self._control = control
        self._clock = time.perf_counter()
        self._chief = worker == 0
        self.state = State()
        self.errors: list[OptduelError] = []

        # --- records: those of training have to be there, those of validation may still arrive ----------
        manifest, training = task.records.manifest, task.training
        threads = task.compute.threads_per_worker
        readers = {split: SplitReader(staged, split, threads) for split in ("train", "validation")}
        self._plan = training_plan(readers["train"], training, task.seed)
        self._validation_plan = validation_plan(readers["validation"], training)
        self._total_steps = self._plan.epoch_steps * training.epochs
        waiting = staged.waiting
        while not staged.wait(own_shards(task, "train", worker), CALL_SECONDS):
            if staged.waiting < waiting:
                control.report(STAGING, 0)
            waiting = staged.waiting

        # --- model and optimizer: weights drawn from the seed, so that the arms of a seed start alike -
        self.precision = resolve_precision(training.precision)
        keras.config.set_dtype_policy(self.precision)
        keras.utils.set_random_seed(task.seed)
        layers = TrainingLayers(training.global_batch_size)
        with strategy.scope():
            self.model = build_model(task.model, manifest.image_shape, len(manifest.classes), layers)
            self._optimizer = Optimizer(
                task.arm, self.model.trainable_variables, self._plan.epoch_steps, self._total_steps
            )
            self._engine = Engine(strategy, self.model, self._optimizer, task.seed)
        self._variables = named_variables(self.model, self._optimizer)
        self._strategy, self._readers = strategy, readers
        self._pace = self._wished_pace = 1

    @property
    def epoch_end(self) -> int:
        """Steps done when the present epoch is."""
        return (self.state.epochs + 1) * self._plan.epoch_steps

    def wall_seconds(self) -> float:
        """Spent on this trial, earlier attempts up to their last checkpoint included."""
        return self.state.wall_seconds + time.perf_counter() - self._clock

    def resume(self, scratch: Path) -> None:
        """Goes on from the newest whole checkpoint of this very trial, if there is one.

        Args:
            scratch: a local folder for the recorder.
        """
        task = self.task
        identity = canonical_json(task.model_dump(mode="json", exclude={"compute", "records", "output"}))
        identity = f"{identity} {self.precision} {task.records.manifest.fingerprint}"
        if found := checkpoint.latest(task.checkpoint_folder, identity):
            for name, variable in self._variables.items():
                variable.assign(found.arrays[name])
            self.state = State.from_json(found.state)
            if self._chief:
                say(f"train {task.name}: goes on after step {found.step} of {self._total_steps}")
        state = self.state
        if not self._engine.is_agreed(zlib.crc32(f"{state.step} {state.epochs} {identity}".encode())):
            raise LaunchError(
                f"train {task.name}: workers differ in checkpoint (here step {state.step}, {state.epochs} "
                f"epochs done), records or precision (here {self.precision}); give them one {task.output}"
            )
        if self._chief:
            self.recorder = Recorder(task, identity, state.rows, scratch)
        self._batches = distribute(
            self._strategy, self._readers["train"], self._plan, state.step, self._total_steps, self.errors
        )
        first, last = (n * self._validation_plan.epoch_steps for n in (state.epochs, task.training.epochs))
        self._held_out = distribute(
            self._strategy, self._readers["validation"], self._validation_plan, first, last, self.errors
        )

    def train_for_a_while(self) -> None:
        """Does steps for about a second, or up to the next row, checkpoint or end of the epoch."""
        state, task = self.state, self.task
        intervals = (task.training.log_every_steps, task.compute.checkpoint_steps)
        ends = [self.epoch_end, *((state.step // steps + 1) * steps for steps in intervals if steps)]
        clock = time.perf_counter()
        trained = self._engine.train(
            self._batches,
            min(self._pace, min(ends) - state.step),
            state.interval,
            Wishes(self._control.is_stop_requested, self._wished_pace),
        )
        seconds = time.perf_counter() - clock
        state.step += trained.steps
        state.interval = trained.totals
        state.interval_seconds += seconds
        if trained.verdict is Verdict.NOT_FINITE:
            raise self._diverged("loss or gradient")
        self._pace, self._wished_pace = trained.pace, _paced(trained.pace, trained.steps, seconds)
        self._control.report("training", state.step)
        if state.step in ends[:2]:
            self._end_interval(trained.gradient_norm)
        self._stop_if_agreed(trained.verdict)
        if self._chief and self.recorder.is_checkpoint_due(state.step):
            self._save()

    def validate(self) -> None:
        """Measures the validation split and ends the epoch."""
        state, plan = self.state, self._validation_plan
        clock = time.perf_counter()
        totals, done, pace, wished_pace = Totals(), 0, 1, 1
        while done < plan.epoch_steps:
            call_clock = time.perf_counter()
            steps = min(pace, plan.epoch_steps - done)
            wishes = Wishes(self._control.is_stop_requested, wished_pace)
            measured = self._engine.validate(self._held_out, steps, totals, wishes)
            totals, done = measured.totals, done + measured.steps
            self._control.report("validating", state.step)
            if measured.verdict is Verdict.NOT_FINITE:
                raise self._diverged("validation loss")
            self._stop_if_agreed(measured.verdict)
            pace = measured.pace
            wished_pace = _paced(pace, measured.steps, time.perf_counter() - call_clock)
        seconds = time.perf_counter() - clock
        trained = self._row("epoch", state.epoch, state.rows[-1].gradient_norm, state.epoch_seconds)
        penalty = self._finite("penalty", self._engine.penalty())
        validated = validation_row(trained, totals, penalty, seconds)
        state.rows += [trained, validated]
        state.epochs += 1
        if self._chief:
            self.recorder.record(state.rows, 2)
            left = (self.task.training.epochs - state.epochs) * (state.epoch_seconds + seconds)
            self.recorder.tell_epoch(state.rows, left)
        state.epoch, state.epoch_seconds = Totals(), 0.0
        self._save()

    def _end_interval(self, gradient_norm: float) -> None:
        """Makes a row of the steps since the last one."""
        state = self.state
        state.rows.append(self._row("step", state.interval, gradient_norm, state.interval_seconds))
        state.epoch = state.epoch.plus(state.interval)
        state.epoch_seconds += state.interval_seconds
        state.interval, state.interval_seconds = Totals(), 0.0
        if self._chief:
            self.recorder.record(state.rows, 1)

    def _stop_if_agreed(self, verdict: Verdict) -> None:
        if verdict is not Verdict.STOP:
            return
        self._save()
        if self._chief:
            self.recorder.finish(self.state.rows)
        raise StoppedError(f"train {self.task.name}: stopped on request, saved after step {self.state.step}")

    def _save(self) -> None:
        if self._chief:
            self._control.report("saving", self.state.step)
            self.recorder.save(self.state.step, self._variables, self.state.to_json(self.wall_seconds()))

    def _row(self, event: Any, totals: Totals, gradient_norm: float, seconds: float) -> Row:
        last_step = tf.constant(self.state.step - 1, tf.float64)
        return training_row(
            totals,
            seconds,
            event=event,
            step=self.state.step,
            epoch=self.state.epochs + 1,
            learning_rate=float(self._optimizer.learning_rate(last_step)),
            decay=float(self._optimizer.decay(last_step)),
            gradient_norm=gradient_norm,
            weight_norm=self._finite("weight norm", self._engine.weight_norm()),
            wall_seconds=self.wall_seconds(),
        )

    def _finite(self, what: str, value: float) -> float:
        if not math.isfinite(value):
            raise self._diverged(what)
        return value

    def _diverged(self, what: str) -> TrainingError:
        if self._chief:
            with contextlib.suppress(StorageError):  # the divergence has to be told, whatever else failed
                self.recorder.finish(self.state.rows)
        return TrainingError(
            f"train {self.task.name}: {what} is not finite at step {self.state.step}; lower "
            f"learning_rate.base = {self.task.arm.learning_rate.base:g} or lengthen its warmup_epochs"
        )


def _paced(pace: int, steps: int, seconds: float) -> int:
    """Steps to wish for; grows slowly, because a first call traces and compiles."""
    return max(1, min(2 * pace, int(steps * CALL_SECONDS / seconds)))

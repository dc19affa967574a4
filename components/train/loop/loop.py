"""Trials from first step to exported model, in one worker process; every worker runs the same lines.

`train` is the order of things: records, then for each trial precision, model, resume, steps and validation,
export. What is compiled is in `engine`, what is kept from trial to trial in `bench`, what is noted while
steps are done in `journal`.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from optduel.components.core import LaunchError, OptduelError, say, seconds_in_words
from optduel.components.records import SplitReader
from optduel.components.results import environment, now
from optduel.components.settings import canonical_json
from optduel.components.train.contract.control import STAGING, STARTING, Control
from optduel.components.train.contract.finished import is_finished
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import checkpoint
from optduel.components.train.loop.arrival import Arrival
from optduel.components.train.loop.bench import Bench
from optduel.components.train.loop.export import export
from optduel.components.train.loop.journal import BEST, Diverged, Journal
from optduel.components.train.loop.recorder import Recorder
from optduel.components.train.loop.state import State, named_weights
from optduel.components.train.model.batches import (
    distribute,
    training_sampler,
    validation_sampler,
)
from optduel.components.train.model.engine import MOST_STEPS, Decision, Totals, Wishes, is_agreed, minima
from optduel.components.train.model.precision import resolve_precision

CALL_SECONDS = 1.0
"""Steps of about this duration are done between two looks at the clock, at progress and at stop requests."""

TELL_SECONDS = 10.0
"""Between two lines on settings, which may take a second each."""


def train(task: Task, strategy: tf.distribute.Strategy, control: Control) -> None:
    """Trains the task's trials, or goes on from their last checkpoints; leaves those that are complete.

    The chief writes what the task's docstring lists. A trial that diverges ends well, too, and without a
    model: that it did is its result.

    Raises:
        DataError: a shard differs from the manifest, now or while training.
        ExperimentError: the experiment cannot be trained on these records with these workers.
        StorageError: a shard cannot be read, or a result cannot be written.
        LaunchError: the workers do not see the same checkpoints or records.
        StoppedError: `control` asked for a stop, and the trial is saved.
    """
    clock = time.perf_counter()
    worker = strategy.cluster_resolver.task_id if strategy.cluster_resolver else 0
    control.report(STARTING, 0)
    with contextlib.ExitStack() as stack:
        # --- records: those of training have to be there, those of validation may still arrive -----------
        arrival = Arrival(task, worker, control, partial(minima, strategy))
        staged = stack.enter_context(arrival.stage(STAGING))
        threads = task.compute.threads_per_worker
        readers = {split: SplitReader(staged, split, threads) for split in ("train", "validation")}
        epoch_steps = training_sampler(readers["train"], task.training, task.seed).epoch_steps
        arrival.wait(staged, "train", STAGING, 0)

        # --- trials: of several, those that an earlier attempt has not finished --------------------------
        left = [one for one in task.trials if not (task.following and is_finished(one))]
        if task.following and not is_agreed(strategy, " ".join(one.fingerprint for one in left)):
            raise LaunchError(
                f"train {task.name}: workers differ in which trials are finished; give them one {task.output}"
            )
        bench = Bench(strategy, epoch_steps)
        first, begun = len(task.trials) - len(left), time.monotonic()
        told = begun
        for number, trial in enumerate(left, start=first):
            control.steps_before = number * epoch_steps * task.training.epochs
            arrive = partial(arrival.wait, staged, "validation", "receiving")
            _train_trial(trial, strategy, control, readers, arrive, bench, worker, clock)
            clock = time.perf_counter()
            is_told = worker == 0 and trial.setting is not None
            if is_told and time.monotonic() - told >= TELL_SECONDS:
                told, done = time.monotonic(), number + 1
                rest = (len(task.trials) - done) * (told - begun) / (done - first)
                of = f"{done} of the {len(task.trials)} trials of this task"
                say(f"train {trial.name}: trained, {of}; {seconds_in_words(rest)} left")


def _train_trial(
    task: Task,
    strategy: tf.distribute.Strategy,
    control: Control,
    readers: Mapping[str, SplitReader],
    arrive: Callable[[int], None],
    bench: Bench,
    worker: int,
    clock: float,
) -> None:
    """Trains one trial.

    Args:
        readers: of the splits "train" and "validation".
        arrive: returns when the shards of validation are there; takes the optimizer steps done.
        bench: that it is trained on, after other trials perhaps.
        worker: 0 on the chief.
        clock: `time.perf_counter()` when this attempt began.
    """
    started, training, manifest = now(), task.training, task.records.manifest
    sampler = training_sampler(readers["train"], training, task.seed)
    held_out_sampler = validation_sampler(readers["validation"], training)
    total_steps = sampler.epoch_steps * training.epochs
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optduel-")))

        # --- precision: the one in which the trial began, wherever it goes on ----------------------------
        left_out = {"compute", "records", "output", "setting", "result", "following", "home"}
        identity = canonical_json(task.model_dump(mode="json", exclude=left_out))
        identity = f"{identity} {manifest.fingerprint}"
        found = checkpoint.latest(task.checkpoint_folder, identity)
        precision = resolve_precision(training.precision, strategy)
        state = State.from_json(found.state) if found else State(precision=precision)
        if state.precision != precision and worker == 0:
            say(f"train {task.name}: began in {state.precision} and stays there; auto is {precision} here")
        precision = state.precision

        # --- model and optimizer: weights drawn from the seed, so that the arms of a seed start alike ----
        bench.lay_out(task, precision)
        engine, variables = bench.engine, bench.variables
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
            "parameters": sum(int(np.prod(one.shape)) for one in bench.model.trainable_variables),
            "precision": precision,
            "workers": task.compute.workers,
            "replicas": strategy.num_replicas_in_sync,
            "started": started,
            "environment": environment(),
        }
        journal = Journal(task, control, recorder, bench, kept, state, clock, told)
        errors: list[OptduelError] = []
        batches = distribute(strategy, readers["train"], sampler, state.step, total_steps, errors)
        first, last = (epochs * held_out_sampler.epoch_steps for epochs in (state.epochs, training.epochs))
        held_out = distribute(strategy, readers["validation"], held_out_sampler, first, last, errors)
        stack.enter_context(_causes_first(errors))
        stack.enter_context(contextlib.suppress(Diverged))

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
                arrive(state.step)
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
            # An epoch of a setting that is tuned may take no longer than saving it.
            is_due = recorder is not None and recorder.is_checkpoint_due(state.step)
            journal.save(task.setting is None or is_due)

        # --- export: the chief publishes the model and, last, the document that makes the trial complete -
        if recorder:
            control.report("exporting", state.step)
            recorder.finish(state.rows)
            if state.epochs < training.epochs:
                say(f"train {task.name}: ends early, after epoch {state.epochs}; best was {state.best_epoch}")
            for name, variable in named_weights(BEST, engine.validated).items() if kept else ():
                variable.assign(kept[name])
            journal.finished(export(task, engine.validated, scratch) if task.setting is None else "")


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

"""One trial from first step to exported model, in one worker process; every worker runs the same lines.

The order of things: strategy, records, model, resume, steps, export. What is compiled is in `engine`.
"""

import hashlib
import math
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.core.errors import ExperimentError, TrainingError
from components.core.experiment import canonical_json
from components.core.history import Row, read_history, write_history
from components.core.lineage import environment, now
from components.core.narration import say, seconds_in_words
from components.core.records import SplitReader, verify_shards
from components.core.results import TrainingRecord, write_document
from components.core.storage import publish
from components.train import checkpoint
from components.train.batches import distribute, training_plan, validation_plan
from components.train.dropout import BatchDropout
from components.train.engine import Engine, Steps
from components.train.models import build_model
from components.train.optimizers import Optimizer
from components.train.precision import resolve_precision
from components.train.task import Task


def train(task: Task, strategy: tf.distribute.Strategy) -> None:
    """Trains a trial, or goes on from its last checkpoint; the chief writes what the task's docstring lists.

    Raises:
        DataError: a shard differs from the manifest.
        ExperimentError: the experiment cannot be trained on these records with these workers.
        TrainingError: a loss or gradient is not finite.
        StorageError: a result cannot be written.
    """
    started, start_clock = now(), time.perf_counter()
    resolver = strategy.cluster_resolver
    is_chief = resolver is None or resolver.task_id == 0

    # --- records: each worker verifies the shards that it reads --------------------------------------
    manifest = task.records.manifest
    workers = task.compute.workers
    worker = 0 if resolver is None else resolver.task_id
    readers = {split: SplitReader(task.records, split) for split in ("train", "validation")}
    for split in readers:
        verify_shards(task.records, manifest.splits[split].shards[worker::workers])
    plan = training_plan(readers["train"], task.training, task.seed)
    validation = validation_plan(readers["validation"], task.training)
    if len(plan.shard_sizes) % workers:
        raise ExperimentError(
            f"compute.workers = {workers}: must divide the records' {len(plan.shard_sizes)} shards"
        )
    total_steps = plan.epoch_steps * task.training.epochs

    # --- model and optimizer: weights drawn from the seed, so that the arms of a seed start alike ----
    precision = resolve_precision(task.training.precision)
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(task.seed)
    with strategy.scope():
        model = build_model(task.model, manifest.image_shape, len(manifest.classes), BatchDropout)
        optimizer = Optimizer(task.arm, model.trainable_variables, plan.epoch_steps, total_steps)
        engine = Engine(strategy, model, optimizer, task.seed)
    state = _variables(model, optimizer)

    # --- resume: the newest whole checkpoint of this very trial, else from scratch -------------------
    identity = canonical_json(task.model_dump(mode="json", exclude={"compute", "records", "output"}))
    identity = f"{identity} {precision} {manifest.fingerprint}"
    step, rows, seconds_before = 0, [], 0.0
    if found := checkpoint.latest(task.checkpoint_folder, identity):
        for name, variable in state.items():
            variable.assign(found.arrays[name])
        step, seconds_before = found.step, float(found.state["seconds"])
        rows = [row for row in read_history(task.history_file) if row.step <= step]
        if is_chief:
            say(f"train {task.name}: goes on after step {step} of {total_steps}")

    # --- steps: to the next logging step or the end of the epoch, whichever comes first --------------
    batches = distribute(strategy, readers["train"], plan, step, total_steps)
    first, last = (
        epochs * validation.epoch_steps for epochs in (step // plan.epoch_steps, task.training.epochs)
    )
    held_out = distribute(strategy, readers["validation"], validation, first, last)
    rate_clock = time.perf_counter()
    while step < total_steps:
        epoch = step // plan.epoch_steps + 1
        epoch_end = epoch * plan.epoch_steps
        of_epoch: list[Steps] = []
        epoch_clock = time.perf_counter()
        while step < epoch_end:
            log_step = (step // task.training.log_every_steps + 1) * task.training.log_every_steps
            measured = engine.train(batches, min(log_step, epoch_end) - step)
            if measured.first_bad_step is not None:
                raise _diverged(task, "loss or gradient", measured.first_bad_step + 1)
            step += measured.steps
            of_epoch.append(measured)
            elapsed = time.perf_counter() - rate_clock
            rate_clock = time.perf_counter()
            wall = seconds_before + rate_clock - start_clock
            row = _training_row("step", step, epoch, [measured], engine, optimizer, elapsed, wall)
            rows.append(row)

        # --- end of an epoch: validation, history, checkpoint ----------------------------------------
        train_seconds = time.perf_counter() - epoch_clock
        validation_clock = time.perf_counter()
        sums = engine.validate(held_out, validation.epoch_steps)
        wall = seconds_before + time.perf_counter() - start_clock
        trained = _training_row("epoch", step, epoch, of_epoch, engine, optimizer, train_seconds, wall)
        penalty = engine.penalty()
        cross_entropy = sums.cross_entropy / sums.examples
        if not math.isfinite(cross_entropy):
            raise _diverged(task, "validation loss", step)
        validated = trained.model_copy(
            update={
                "split": "validation",
                "examples": int(sums.examples),
                "cross_entropy": cross_entropy,
                "penalty": penalty,
                "total": cross_entropy + penalty,
                "accuracy": sums.correct / sums.examples,
                "examples_per_second": sums.examples / (time.perf_counter() - validation_clock),
            }
        )
        rows += [trained, validated]
        if is_chief:
            write_history(task.history_file, rows)
            arrays = {name: variable.numpy() for name, variable in state.items()}
            checkpoint.save(
                task.checkpoint_folder,
                checkpoint.Checkpoint(step, identity, arrays, {"seconds": wall}),
                task.training.checkpoints_kept,
            )
            left = (task.training.epochs - epoch) * (time.perf_counter() - epoch_clock)
            say(_progress(task, epoch, trained, validated, left))
        rate_clock = time.perf_counter()

    # --- export ---------------------------------------------------------------------------------------
    if is_chief:
        model_sha256 = export(task, model)
        record = TrainingRecord(
            arm=task.arm.name,
            seed=task.seed,
            data_fingerprint=manifest.fingerprint,
            model_sha256=model_sha256,
            parameters=sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
            precision=precision,
            workers=workers,
            replicas=strategy.num_replicas_in_sync,
            started=started,
            seconds=seconds_before + time.perf_counter() - start_clock,
            environment=environment(),
        )
        write_document(task.record_file, record)


def _diverged(task: Task, what: str, step: int) -> TrainingError:
    return TrainingError(
        f"train {task.name}: {what} is not finite at step {step}; lower "
        f"learning_rate.base = {task.arm.learning_rate.base:g} or lengthen its warmup_epochs"
    )


def export(task: Task, model: keras.Model) -> str:
    """Writes the model in Keras' format, made of Keras' own layers only, in float32; returns its SHA-256."""
    keras.config.set_dtype_policy("float32")
    manifest = task.records.manifest
    plain = build_model(task.model, manifest.image_shape, len(manifest.classes))
    plain.set_weights(model.get_weights())
    scratch = task.model_file.with_name("exporting.keras")
    plain.save(scratch)
    content = scratch.read_bytes()
    publish(task.model_file, content)
    scratch.unlink()
    return hashlib.sha256(content).hexdigest()


def _variables(model: keras.Model, optimizer: Optimizer) -> dict[str, Any]:
    """All that a checkpoint holds, by name; positions make names unique."""
    named = {f"model/{index:03d}/{variable.path}": variable for index, variable in enumerate(model.variables)}
    for index, slots in enumerate(optimizer.slots):
        named |= {f"slot/{index:03d}/{number}": slot for number, slot in enumerate(slots)}
    return named


def _training_row(
    event: Any,
    step: int,
    epoch: int,
    measured: list[Steps],
    engine: Engine,
    optimizer: Optimizer,
    seconds: float,
    wall_seconds: float,
) -> Row:
    examples = sum(part.sums.examples for part in measured)
    cross_entropy = sum(part.sums.cross_entropy for part in measured) / examples
    penalty = sum(part.penalty for part in measured) / sum(part.steps for part in measured)
    last_step = tf.constant(step - 1, tf.float64)
    return Row(
        event=event,
        split="train",
        step=step,
        epoch=epoch,
        examples=int(examples),
        cross_entropy=cross_entropy,
        penalty=penalty,
        total=cross_entropy + penalty,
        accuracy=sum(part.sums.correct for part in measured) / examples,
        learning_rate=float(optimizer.learning_rate(last_step)),
        decay=float(optimizer.decay(last_step)),
        gradient_norm=measured[-1].gradient_norm,
        weight_norm=engine.weight_norm(),
        examples_per_second=examples / seconds,
        wall_seconds=wall_seconds,
    )


def _progress(task: Task, epoch: int, trained: Row, validated: Row, seconds_left: float) -> str:
    return (
        f"train {task.name}: epoch {epoch}/{task.training.epochs}"
        f"  loss {trained.cross_entropy:.4f} + penalty {trained.penalty:.4f}, accuracy {trained.accuracy:.1%}"
        f"  validation {validated.cross_entropy:.4f}, {validated.accuracy:.1%}"
        f"  {trained.examples_per_second:,.0f} examples/s, {seconds_in_words(seconds_left)} left"
    )

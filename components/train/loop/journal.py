"""What is noted while a trial trains: rows of its history, checkpoints, its document, words for its end."""

import math
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np

from optduel.components.core import StoppedError, say
from optduel.components.results import Divergence, Row, TrainingRecord, TunedTrial, epochs_of, write_document
from optduel.components.train.contract.control import Control
from optduel.components.train.contract.task import Task
from optduel.components.train.loop.bench import Bench
from optduel.components.train.loop.recorder import Recorder
from optduel.components.train.loop.state import State, named_weights, training_row, validation_row
from optduel.components.train.model.engine import Totals

BEST = "best"
"""How the names of the best epoch's weights begin in a checkpoint."""


class Diverged(Exception):  # noqa: N818  # it ends a loop, and is no error
    """Ends the steps of a trial that has diverged, on every worker at the same one."""


class Journal:
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
        bench: Bench,
        kept: dict[str, np.ndarray],
        state: State,
        clock: float,
        told: Mapping[str, object],
    ) -> None:
        self._task = task
        self._control = control
        self._recorder = recorder
        self._bench = bench
        self._kept = kept
        self._state = state
        self._clock = clock
        self._told = told
        self._measured: tuple[int, float] | None = None  # a step, and the weights' norm after it

    def wall_seconds(self) -> float:
        """Spent on this trial, earlier attempts up to their last checkpoint included."""
        return self._state.wall_seconds + time.perf_counter() - self._clock

    def end_interval(self, gradient_norm: float) -> None:
        """Makes a row of the steps since the last one. Raises Diverged where weights are not finite."""
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
            Diverged: weights or penalty are not finite.
        """
        state = self._state
        trained = self._row("epoch", state.epoch, state.rows[-1].gradient_norm, state.epoch_seconds)
        penalty = self._finite("penalty", self._bench.engine.penalty())
        state.rows += [trained, validation_row(trained, measured, penalty, seconds)]
        epoch_seconds = state.epoch_seconds + seconds
        state.close_epoch()
        rule = self._task.training.early_stopping
        if rule and state.is_best(rule) and self._recorder:
            weights = named_weights(BEST, self._bench.engine.validated)
            self._kept |= {name: variable.numpy() for name, variable in weights.items()}
        if self._recorder:
            self._recorder.record(state.rows, 2)
            if self._task.setting is not None:
                return
            left = (self._task.training.epochs - state.epochs) * epoch_seconds
            self._recorder.tell_epoch(state.rows, left)

    def save(self, is_due: bool = True) -> None:
        """Saves all that the trial needs to go on from here. Raises Diverged where it has diverged.

        Args:
            is_due: only looks whether it has diverged where it is not.
        """
        # The last step was measured before it changed the weights.
        self._weight_norm()
        if self._recorder and is_due:
            state = self._state
            self._control.report("saving", state.step)
            self._recorder.save(
                state.step, self._bench.variables, self._kept, state.to_json(self.wall_seconds())
            )

    def stopped(self) -> StoppedError:
        """Saves, and gives the error that ends a trial on request."""
        self.save()
        if self._recorder:
            self._recorder.finish(self._state.rows)
        return StoppedError(
            f"train {self._task.name}: stopped on request, saved after step {self._state.step}"
        )

    def diverged(self, reason: str) -> Diverged:
        """Writes the history but no checkpoint, and the trial's document; gives what ends the steps."""
        state = self._state
        if self._recorder:
            self._recorder.finish(state.rows)
            ended = {"epoch": state.epochs + 1, "step": state.step, "reason": reason}
            divergence = Divergence.model_validate({**self._told, **ended, "seconds": self.wall_seconds()})
            self._write(divergence)
            advice = (
                f"; where that was not expected, lower learning_rate.base = "
                f"{self._task.arm.learning_rate.base:g} or lengthen its warmup_epochs"
            )
            is_searched = self._task.setting is not None
            name = f"train {self._task.name}"
            say(f"{name}: diverged, and ends here: {divergence.text}{'' if is_searched else advice}")
        return Diverged(reason)

    def finished(self, model_sha256: str) -> None:
        """Writes the trial's document, which makes it complete; on the chief, after all else is written.

        Args:
            model_sha256: of what was exported; empty where nothing was.
        """
        known = {**self._told, "model_sha256": model_sha256, "seconds": self.wall_seconds()}
        self._write(TrainingRecord.model_validate(known))

    def _write(self, record: TrainingRecord | Divergence) -> None:
        if self._task.setting is None:
            write_document(self._task.record_file, record)
            return
        state, kept = self._state, record.model_dump(include=set(TunedTrial.model_fields))
        tuned = {
            "epoch": state.best_epoch or state.epochs,
            "steps": state.step,
            "validation": tuple(epochs_of(state.rows, "validation")),
            "diverged": record.text if isinstance(record, Divergence) else None,
        }
        write_document(self._task.record_file, TunedTrial.model_validate({**kept, **tuned}))

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
            learning_rate=self._bench.optimizer.learning_rate(last_step),
            decay=self._bench.optimizer.decay(last_step),
            gradient_norm=gradient_norm,
            weight_norm=self._weight_norm(),
            wall_seconds=self.wall_seconds(),
        )

    def _weight_norm(self) -> float:
        """After the last step. Raises Diverged where it is not finite."""
        step = self._state.step
        if self._measured is None or self._measured[0] != step:
            self._measured = step, self._bench.engine.weight_norm()
        return self._finite("weight norm", self._measured[1])

    def _finite(self, what: str, value: float) -> float:
        if not math.isfinite(value):
            raise self.diverged(what)
        return value

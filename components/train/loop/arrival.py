"""Waits for data, all workers together: what arrives at one of them is progress for everyone.

A worker whose shards are there would else wait for the others in TensorFlow, without a word, until its
supervisor takes it for hanging, and ends the whole group while the others' data still arrive.
"""

import concurrent.futures
from collections.abc import Callable, Sequence

import numpy as np

from optduel.components.records import StagedRecords
from optduel.components.train.contract.control import Control
from optduel.components.train.contract.task import Task
from optduel.components.train.model.batches import own_shards, stage_own_shards

LOOK_SECONDS = 1.0
"""How often workers compare what has arrived."""

Minima = Callable[[Sequence[float]], np.ndarray]
"""The smallest of each value over all workers, which all call it together."""


class Arrival:
    """Waits at one worker, while the others wait at theirs.

    Args:
        task: what is trained.
        worker: this one.
        control: is told of progress.
        minima: over all workers.
    """

    def __init__(self, task: Task, worker: int, control: Control, minima: Minima) -> None:
        self._task = task
        self._worker = worker
        self._control = control
        self._minima = minima

    def stage(self, phase: str) -> StagedRecords:
        """Stages this worker's shards, see `stage_own_shards`; returns when every worker's are verified."""
        reports: list[None] = []
        # Not a pool that is waited for: where a peer is lost meanwhile, this process ends.
        pool = concurrent.futures.ThreadPoolExecutor(1, "verifying")
        staging = pool.submit(stage_own_shards, self._task, self._worker, lambda: reports.append(None))

        def is_done(seconds: float) -> bool:
            done, _ = concurrent.futures.wait([staging], seconds)
            if done:
                staging.result()
            return bool(done)

        self._wait(is_done, lambda: len(reports), phase, 0)
        return staging.result()

    def wait(self, staged: StagedRecords, split: str, phase: str, step: int) -> None:
        """Returns when every worker's shards of a split are there.

        Args:
            phase: what the supervisor is told of.
            step: optimizer steps done.

        Raises:
            StorageError: a shard could not be brought here.
        """
        own = own_shards(self._task, split, self._worker)
        self._wait(lambda seconds: staged.wait(own, seconds), lambda: staged.arrived_bytes, phase, step)

    def _wait(
        self, is_here: Callable[[float], bool], count: Callable[[], int], phase: str, step: int
    ) -> None:
        # What came before all workers met here is news as well: nobody has been told.
        before, is_everywhere = 0, False
        while not is_everywhere:
            is_own_here = is_here(LOOK_SECONDS)
            now = count()
            found = self._minima([float(is_own_here), float(now == before)])
            is_everywhere, is_nothing_new = bool(found[0]), bool(found[1])
            before = now
            if not is_nothing_new:
                self._control.report(phase, step)

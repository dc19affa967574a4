"""What a run has cost: every task measures itself and leaves what it found in the run's folder."""

import contextlib
import os
import resource
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from optduel.components.core import DataError, ExperimentError, StorageError, say
from optduel.components.results.lineage import now
from optduel.components.results.tables import run_folder
from optduel.components.settings import Prices, Section, decode
from optduel.components.storage import join, list_entries, publish, read

METER_VARIABLE = "OPTDUEL_METER"
"""Holds a `Meter` as JSON where a deployment says what a task's pods have."""

_FOLDER = "costs"


class Meter(Section):
    """What a task holds while it runs.

    Attributes:
        processors: that are reserved for it, over all its pods.
        accelerators: likewise.
        prices: of an hour of each; without them there is no price.
    """

    processors: float
    accelerators: int = 0
    prices: Prices | None = None


class TaskCost(Section):
    """What one attempt of a task has cost.

    Attributes:
        seconds: from its begin to its end.
        processor_seconds: reserved ones on a cluster; on this machine those that it and its children used.
        accelerator_seconds: reserved ones.
        price: in the currency; None where nobody has named prices.
    """

    task: str
    started: str
    seconds: float
    processor_seconds: float
    accelerator_seconds: float
    price: float | None = None
    currency: str | None = None


class RunCost(Section):
    """What the tasks of a run have cost together, failed attempts included."""

    tasks: int
    processor_seconds: float
    accelerator_seconds: float
    price: float | None
    currency: str | None

    @property
    def text(self) -> str:
        """For people."""
        told = [f"{self.processor_seconds / 3600:.3g} processor-hours"]
        if self.accelerator_seconds:
            told.append(f"{self.accelerator_seconds / 3600:.3g} GPU-hours")
        if self.price is not None:
            told.append(f"{self.price:.2f} {self.currency}")
        return ", ".join(told)


@contextlib.contextmanager
def metered(task: str, root: str, run: str) -> Iterator[None]:
    """Measures the body as one attempt of a task; leaves what it cost in the run's folder, also on failure.

    Args:
        task: its name.
        root: of datasets and runs.
        run: the run's name; empty for a task whose result other runs may take over: it is not measured.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    started, begun, used = now(), time.monotonic(), _used()

    def leave() -> None:
        if run:
            cost = _cost(task, started, time.monotonic() - begun, _used() - used)
            name = f"{task.replace(' ', '-')}-{uuid.uuid4().hex[:12]}.json"
            publish(join(run_folder(root, run), _FOLDER, name), cost.canonical_json().encode())

    try:
        yield
    except BaseException:
        try:
            leave()
        except StorageError as error:  # which may be what ended the body, whose own words come first
            say(f"{task}: what it cost cannot be recorded: {error}")
        raise
    leave()


def task_costs(root: str, run: str) -> list[TaskCost]:
    """What the tasks of a run have cost that have ended, by the time they began.

    Raises:
        StorageError: the run's folder cannot be read.
        DataError: a document in it is damaged.
    """
    found = []
    for entry in list_entries(join(run_folder(root, run), _FOLDER)):
        try:
            found.append(decode(TaskCost, read(entry.uri), entry.uri))
        except ExperimentError as error:
            raise DataError(f"{entry.uri}: is damaged; remove it: {error}") from error
    return sorted(found, key=lambda cost: (cost.started, cost.task))


def sum_costs(costs: Sequence[TaskCost]) -> RunCost:
    """Costs of tasks, together; without a price where a task has none."""
    prices = [cost.price for cost in costs]
    known = [price for price in prices if price is not None]
    return RunCost(
        tasks=len(costs),
        processor_seconds=sum(cost.processor_seconds for cost in costs),
        accelerator_seconds=sum(cost.accelerator_seconds for cost in costs),
        price=sum(known) if known and len(known) == len(prices) else None,
        currency=costs[0].currency if costs else None,
    )


def _cost(task: str, started: str, seconds: float, used: float) -> TaskCost:
    fields: dict[str, Any] = {"task": task, "started": started, "seconds": seconds}
    text = os.environ.get(METER_VARIABLE)
    if not text:
        return TaskCost(**fields, processor_seconds=used, accelerator_seconds=0)
    meter = decode(Meter, text, METER_VARIABLE)
    processors, accelerators = meter.processors * seconds, meter.accelerators * seconds
    fields |= {"processor_seconds": processors, "accelerator_seconds": accelerators}
    if meter.prices is None:
        return TaskCost(**fields)
    prices = meter.prices
    price = (processors * prices.processor_hour + accelerators * prices.accelerator_hour) / 3600
    return TaskCost(**fields, price=price, currency=prices.currency)


def _used() -> float:
    """Seconds of processors that this process and those of its children that have ended have used."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)

"""What a benchmark is made of: contestants, the numbers that they give, and comparisons of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import truediv
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """One way to do the work, measured in a process of its own.

    Attributes:
        name: how tables and comparisons call it.
        module: a module of this package whose `run(seed, folder, **arguments)` does the work.
        arguments: JSON values.
        needs: what `workload` has to prepare for it.
        cores: one entry per process: the cores that it may use. Several processes run at the same time, apart
            from each other, and their rates are added.
        python: the interpreter; this one's when absent.
        skipped: why it cannot run here; it then stands in the results with this reason.
    """

    name: str
    module: str
    arguments: Mapping[str, Any]
    needs: tuple[str, ...]
    cores: tuple[tuple[int, ...], ...]
    python: Path | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class Measure:
    """A number of each run that the table shows: its key in a contestant's result, its title and decimals."""

    key: str
    title: str
    decimals: int = 1


@dataclass(frozen=True)
class Comparison:
    """A number made of one measure of two contestants, within each repetition: by default first / second."""

    title: str
    key: str
    first: str
    second: str
    combine: Callable[[float, float], float] = truediv


@dataclass(frozen=True)
class Benchmark:
    """Contestants that alternate within every repetition: A B C, A B C, ...

    Attributes:
        name: on the command line.
        title: one line for people.
        seeds: one repetition for each, with this seed.
        series: keys of lists, shown as they are for the last repetition.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    contestants: tuple[Contestant, ...]
    measures: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...] = ()
    series: tuple[Measure, ...] = ()

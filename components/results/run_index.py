"""The index of runs: one small Parquet object for each finished run, which together are one table.

    SELECT * FROM '<root>/index/*.parquet'

The report stage writes a run's object: it is the last one and knows everything, on a laptop and on a cluster
alike, so no runner has to outlive the run, and what is in the index has its report. The object bears the
run's name, so no two runs contend for one, and nothing is rewritten for the sake of another run. It has a row
for each arm, rather than one row of lists, so that every reader can filter, join and plot it as it is.
"""

import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from optduel.components.core.errors import DataError, ExperimentError
from optduel.components.results.documents import Answer
from optduel.components.results.parquet import Column, Schema, decode, encode
from optduel.components.settings.authoring import validate
from optduel.components.settings.experiment import Section
from optduel.components.storage.location import join
from optduel.components.storage.objects import list_entries, publish, read

_FOLDER = "index"
_SUFFIX = ".parquet"
_THREADS = 8


class IndexedArm(Section):
    """One arm of a finished run; what compares it with the first arm is None for the first arm itself.

    Attributes:
        started: when the first trial's training began, in UTC without saying so.
        seeds: how many trials the arm has.
        split: that the medians are taken on.
        baseline: the arm that this one is compared with, by `metric`.
        better: the better one of the two where the answer is "shown".
        sentence: the verdict in words.
    """

    run: str
    experiment: str
    title: str
    fingerprint: str
    data_fingerprint: str
    code_version: str
    started: datetime.datetime
    arm: str
    seeds: int
    split: Literal["test", "validation"]
    median_accuracy: float
    median_cross_entropy: float
    baseline: str | None = None
    metric: Literal["accuracy", "cross_entropy"] | None = None
    confidence: float | None = None
    mean_difference: float | None = None
    interval_low: float | None = None
    interval_high: float | None = None
    p_value: float | None = None
    answer: Answer | None = None
    better: str | None = None
    sentence: str | None = None


RUNS = Schema(
    "runs",
    1,
    (
        Column("run", "string", "", "name of the run, unique below its root"),
        Column("experiment", "string", "", "name of the experiment"),
        Column("title", "string", "", "of the experiment"),
        Column("fingerprint", "string", "", "SHA-256 of all that determines the numbers"),
        Column("data_fingerprint", "string", "", "of the records"),
        Column("code_version", "string", "", "commit of the code that trained"),
        Column("started", "timestamp[us]", "UTC", "when the first trial's training began"),
        Column("arm", "string", "", "name of the arm; the run's first one has no baseline"),
        Column("seeds", "int64", "trials", "of the arm"),
        Column("split", "string", "", "that the medians are taken on: test or validation"),
        Column("median_accuracy", "float64", "fraction", "over the seeds"),
        Column("median_cross_entropy", "float64", "nat", "over the seeds"),
        Column("baseline", "string", "", "arm that this one is compared with"),
        Column("metric", "string", "", "that they are compared by: accuracy or cross_entropy"),
        Column("confidence", "float64", "fraction", "level of the interval"),
        Column("mean_difference", "float64", "of metric", "this arm minus baseline, paired by seed"),
        Column("interval_low", "float64", "of metric", "BCa bound of the mean; null below two seeds"),
        Column("interval_high", "float64", "of metric", "BCa bound of the mean; null below two seeds"),
        Column("p_value", "float64", "probability", "two-sided sign-flip test, Holm-corrected"),
        Column("answer", "string", "", "shown, not shown or no difference"),
        Column("better", "string", "", "the better arm where the answer is shown"),
        Column("sentence", "string", "", "the verdict in words"),
    ),
)


def write_index(root: str, run: str, arms: list[IndexedArm]) -> None:
    """Puts a run into the index, whole; the same run again replaces itself.

    Args:
        root: of datasets and runs.
        run: the run's name.
        arms: of that run, in the experiment's order.
    """
    publish(join(root, _FOLDER, run + _SUFFIX), encode(RUNS, [arm.model_dump() for arm in arms]))


def indexed_runs(root: str) -> list[str]:
    """The names of the runs in the index, sorted."""
    return [_name(uri) for uri in _objects(root)]


def read_index(root: str) -> list[IndexedArm]:
    """The arms of all runs in the index: runs by the time they started, arms in their experiment's order.

    Raises:
        DataError: an object of the index is damaged, or of another version.
        StorageError: the place cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        runs = list(pool.map(_read_run, _objects(root)))
    runs.sort(key=lambda arms: (arms[0].started, arms[0].run))
    return [arm for arms in runs for arm in arms]


def _objects(root: str) -> list[str]:
    entries = list_entries(join(root, _FOLDER))
    return [entry.uri for entry in entries if entry.uri.endswith(_SUFFIX)]


def _name(uri: str) -> str:
    return uri.rpartition("/")[2].removesuffix(_SUFFIX)


def _read_run(uri: str) -> list[IndexedArm]:
    arms = []
    for row in decode(RUNS, read(uri), uri):
        try:
            arms.append(validate(IndexedArm, row, uri))
        except ExperimentError as error:
            raise DataError(f"{uri}: not a part of the index: {error}") from error
    if not arms:
        raise DataError(f"{uri}: holds no arm; run the study again")
    return arms

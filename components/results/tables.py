"""Tables as Parquet files, which pandas, DuckDB and BigQuery read without this code: schema, bytes, rows.

pyarrow writes to memory only; what publishes an object whole is `optduel.components.storage`.
"""

import datetime
import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from optduel.components.core import DataError, ExperimentError, StorageError
from optduel.components.results.documents import Answer
from optduel.components.results.history import Row
from optduel.components.settings import Section, validate
from optduel.components.storage import Location, join, list_entries, publish, read

TABLE_KEY, VERSION_KEY = b"optduel.table", b"optduel.schema_version"
"""In the metadata of every file: which table it is a part of, and the version of that table's schema."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: Arrow's name for it: "string", "int64", "float64" or "timestamp[us]".
        unit: of its values, in the field's metadata; empty where they have none.
        description: in the field's metadata, too.
    """

    name: str
    type: str
    unit: str
    description: str


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order. Another set of columns, types or units is another version."""

    table: str
    version: int
    columns: tuple[Column, ...]


def encode(schema: Schema, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A Parquet file. Equal rows give equal bytes under one release of pyarrow.

    Args:
        schema: of the table.
        rows: as values by column; times are in UTC and do not say so, which every reader understands.
    """
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(list(rows), schema=_arrow_schema(schema))
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(table, buffer, write_page_checksum=True)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def decode(schema: Schema, content: bytes, where: str) -> list[dict[str, Any]]:
    """The rows of a Parquet file, as values by column.

    Args:
        schema: that the file must have.
        content: of the file.
        where: names the file in messages.

    Raises:
        DataError: the file is damaged, or is no such table of this version.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content), page_checksum_verification=True)
        found = file.schema_arrow
        _check(schema, found.metadata or {}, where)
        if not found.equals(_arrow_schema(schema)):
            raise DataError(f"{where}: has other columns than version {schema.version} of its table")
        # Equal values take no room in a file, but memory here.
        if file.metadata.num_rows > len(content):
            raise DataError(f"{where}: more rows than bytes: this is no table that was measured")
        # Without threads: those of pyarrow's pool may abort a process that ends right after reading.
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    # The latter where bytes are no UTF-8, or no time of Python's.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: not a Parquet file, or a damaged one: {cause}") from error
    return rows


def _arrow_schema(schema: Schema) -> Any:
    import pyarrow

    fields = [
        pyarrow.field(
            column.name,
            pyarrow.type_for_alias(column.type),
            metadata={"unit": column.unit, "description": column.description},
        )
        for column in schema.columns
    ]
    return pyarrow.schema(
        fields, metadata={TABLE_KEY: schema.table.encode(), VERSION_KEY: str(schema.version).encode()}
    )


def _check(schema: Schema, metadata: Mapping[bytes, bytes], where: str) -> None:
    table = metadata.get(TABLE_KEY, b"").decode(errors="replace")
    if table != schema.table:
        raise DataError(f"{where}: holds the table {table!r}, not {schema.table!r}; give one of those")
    version = metadata.get(VERSION_KEY, b"").decode(errors="replace")
    if version != str(schema.version):
        raise DataError(
            f"{where}: schema version = {version}: this code reads {schema.version}; "
            "use the release that wrote it"
        )


HISTORY_NAME = "history.parquet"

EXPERIMENT_NAME, RECORDS_NAME, COMPARISON_NAME = "experiment.json", "records.json", "comparison.json"
"""What the report of a finished run is made from, beside its trials."""
"""In the folder of every finished run."""


class TrialHistory(Section):
    """The rows of one trial, and what tells them from those of other trials and runs.

    Attributes:
        run: the run's name, unique below its root.
        experiment: the experiment's name.
        fingerprint: of the experiment: equal ones ask for equal numbers.
        data_fingerprint: of the records.
        started: when the trial's training began, in UTC without saying so.
    """

    run: str
    experiment: str
    fingerprint: str
    data_fingerprint: str
    arm: str
    seed: int
    code_version: str
    started: datetime.datetime
    precision: str
    workers: int
    replicas: int
    rows: tuple[Row, ...]


HISTORY = Schema(
    "history",
    1,
    (
        Column("run", "string", "", "name of the run, unique below its root"),
        Column("experiment", "string", "", "name of the experiment"),
        Column("fingerprint", "string", "", "SHA-256 of all that determines the numbers"),
        Column("data_fingerprint", "string", "", "of the records"),
        Column("arm", "string", "", "name of the arm"),
        Column("seed", "int64", "", "of initial weights, data order and dropout"),
        Column("code_version", "string", "", "commit of the code that trained"),
        Column("started", "timestamp[us]", "UTC", "when the trial's training began"),
        Column("precision", "string", "", "dtype policy: float32, mixed_bfloat16 or float64"),
        Column("workers", "int64", "processes", "that trained together"),
        Column("replicas", "int64", "devices", "over all workers"),
        Column("event", "string", "", "step: the steps since the row before; epoch: a whole epoch"),
        Column("split", "string", "", "train, or validation: measured at the end of the epoch"),
        Column("step", "int64", "optimizer steps", "done"),
        Column("epoch", "int64", "epochs", "done; of a step row the epoch it belongs to, from 1"),
        Column("examples", "int64", "examples", "that the means are taken over"),
        Column("cross_entropy", "float64", "nat", "mean, without any penalty"),
        Column("penalty", "float64", "nat", "l2 * sum(w^2) over decayed weights; 0 without L2"),
        Column("total", "float64", "nat", "cross_entropy + penalty: what the gradient minimizes"),
        Column("accuracy", "float64", "fraction", "of examples whose largest logit is the label's"),
        Column("learning_rate", "float64", "1", "of the last step"),
        Column("decay", "float64", "1", "fraction of a decayed weight that the last step subtracts"),
        Column("gradient_norm", "float64", "1", "Euclidean, of the last step, penalty included"),
        Column("weight_norm", "float64", "1", "Euclidean, of all trainable weights"),
        Column("examples_per_second", "float64", "examples/s", "over the time since the row before"),
        Column("wall_seconds", "float64", "s", "since the trial's training began"),
    ),
)


def run_folder(root: str, run: str) -> str:
    """Where a run's table lies, among what else it leaves."""
    return join(root, "runs", run)


def trial_folder(models: str, seed: int) -> str:
    """Where a trial's model and all that belongs to it are, below the folder of its arm's models."""
    return join(models, f"seed-{seed}")


def trial_document(folder: str, arm: str, seed: int) -> str:
    """Where a trial's evaluation is kept until all trials of a run are compared.

    Kubeflow Pipelines gathers artifacts of loops only, and writes each of them several times into its record
    of the run, which has a limit; so trials are found by their names.

    Args:
        folder: the run's.
        arm: the arm's name.
        seed: of the trial.
    """
    return join(folder, "trials", arm, f"seed-{seed}.json")


def write_history_table(location: Location, trials: Iterable[TrialHistory]) -> None:
    """Replaces the table at `location`, whole, by these trials, one after the other as they were measured."""
    rows = []
    for trial in trials:
        identity = trial.model_dump(exclude={"rows"})
        rows += [identity | row.model_dump() for row in trial.rows]
    publish(location, encode(HISTORY, rows))


def decode_history_table(content: bytes, where: str) -> tuple[TrialHistory, ...]:
    """The trials of a Parquet file's content, in the order they were written.

    Args:
        where: names the file in messages.

    Raises:
        DataError: it is damaged, or no history of this version.
    """
    measured = set(Row.model_fields)

    def identity(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in measured}

    trials = []
    for fields, rows in itertools.groupby(decode(HISTORY, content, where), identity):
        measurements = tuple({name: row[name] for name in measured} for row in rows)
        try:
            trials.append(validate(TrialHistory, fields | {"rows": measurements}, where))
        except ExperimentError as error:
            raise DataError(f"{where}: not a history: {error}") from error
    return tuple(trials)


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


class Index(NamedTuple):
    """All runs below a root.

    Attributes:
        arms: of the runs that can be read: by the time they started, arms in their experiment's order.
        problems: why others cannot, a message each: damaged, or written by another release.
    """

    arms: list[IndexedArm]
    problems: list[str]


def read_index(root: str) -> Index:
    """Reads the index; one damaged object hides no other run.

    Raises:
        StorageError: the place cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_read_run, _objects(root)))
    runs = [run for run in found if not isinstance(run, str)]
    runs.sort(key=lambda arms: (arms[0].started, arms[0].run))
    return Index([arm for arms in runs for arm in arms], [run for run in found if isinstance(run, str)])


def _objects(root: str) -> list[str]:
    entries = list_entries(join(root, _FOLDER))
    return [entry.uri for entry in entries if entry.uri.endswith(_SUFFIX)]


def _name(uri: str) -> str:
    return uri.rpartition("/")[2].removesuffix(_SUFFIX)


def _read_run(uri: str) -> list[IndexedArm] | str:
    """The arms of a run, or why they cannot be read."""
    try:
        arms = [validate(IndexedArm, row, uri) for row in decode(RUNS, read(uri), uri)]
    except ExperimentError as error:
        return f"{uri}: not a part of the index: {error}"
    except (DataError, StorageError) as error:
        return str(error)
    return arms or f"{uri}: holds no arm; run the study again"

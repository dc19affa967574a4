"""The tables over many runs, histories and the index, and where what a run leaves lies below the root."""

import datetime
import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from optduel.components.core import DataError, ExperimentError, StorageError
from optduel.components.results.columns import Column, Schema, decode, encode
from optduel.components.results.documents import Answer
from optduel.components.results.history import Row
from optduel.components.settings import Metric, Section, validate
from optduel.components.storage import Location, join, list_entries, publish, read

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
        diverged_step: after which optimizer step it diverged; None where it finished.
        rows: none where it diverged before the first.
    """

    run: str
    experiment: str
    fingerprint: str
    data_fingerprint: str
    arm: str
    seed: int
    diverged_step: int | None = None
    code_version: str
    started: datetime.datetime
    precision: str
    workers: int
    replicas: int
    rows: tuple[Row, ...]


HISTORY = Schema(
    "history",
    2,
    (
        Column("run", "string", "", "name of the run, unique below its root"),
        Column("experiment", "string", "", "name of the experiment"),
        Column("fingerprint", "string", "", "SHA-256 of all that determines the numbers"),
        Column("data_fingerprint", "string", "", "of the records"),
        Column("arm", "string", "", "name of the arm"),
        Column("seed", "int64", "", "of initial weights, data order and dropout"),
        Column(
            "diverged_step", "int64", "optimizer steps", "after which the trial diverged; null: it did not"
        ),
        Column("code_version", "string", "", "commit of the code that trained"),
        Column("started", "timestamp[us]", "UTC", "when the trial's training began"),
        Column("precision", "string", "", "dtype policy: float32, mixed_bfloat16 or float64"),
        Column("workers", "int64", "processes", "that trained together"),
        Column("replicas", "int64", "devices", "over all workers"),
        Column(
            "event", "string", "", "step: since the row before; epoch: a whole one; null: nothing measured"
        ),
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


def predictions_file(folder: str, arm: str, seed: int) -> str:
    """Where a trial's predictions are kept, beside its document; see `Predictions`."""
    return join(folder, "trials", arm, f"seed-{seed}.parquet")


def write_history_table(location: Location, trials: Iterable[TrialHistory]) -> None:
    """Replaces the table at `location`, whole, by these trials, one after the other as they were measured."""
    rows = []
    for trial in trials:
        identity = trial.model_dump(exclude={"rows"})
        # A trial that diverged before its first row is there all the same.
        rows += [identity | row.model_dump() for row in trial.rows] or [identity]
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
        measurements = tuple(
            {name: row[name] for name in measured} for row in rows if row["event"] is not None
        )
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
        seeds: how many trials of the arm are compared.
        diverged: how many of its trials did.
        settings: how many settings were tried for it; None where it was not tuned.
        setting: what was chosen of these, as JSON: values by path.
        split: that the medians are taken on.
        baseline: the arm that this one is compared with, by `metric`.
        better: the better one of the two where the answer is "shown".
        sentence: the verdict in words.
        processor_seconds: of the whole run until its report was made, as are the next three; the same for
            all of its arms.
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
    diverged: int = 0
    settings: int | None = None
    setting: str | None = None
    split: Literal["test", "validation"]
    median_accuracy: float | None
    median_cross_entropy: float | None
    baseline: str | None = None
    metric: Metric | None = None
    confidence: float | None = None
    mean_difference: float | None = None
    interval_low: float | None = None
    interval_high: float | None = None
    p_value: float | None = None
    answer: Answer | None = None
    better: str | None = None
    images_low: float | None = None
    images_high: float | None = None
    images_answer: Answer | None = None
    seeds_needed: int | None = None
    images_needed: int | None = None
    sentence: str | None = None
    processor_seconds: float | None = None
    accelerator_seconds: float | None = None
    price: float | None = None
    currency: str | None = None


RUNS = Schema(
    "runs",
    3,
    (
        Column("run", "string", "", "name of the run, unique below its root"),
        Column("experiment", "string", "", "name of the experiment"),
        Column("title", "string", "", "of the experiment"),
        Column("fingerprint", "string", "", "SHA-256 of all that determines the numbers"),
        Column("data_fingerprint", "string", "", "of the records"),
        Column("code_version", "string", "", "commit of the code that trained"),
        Column("started", "timestamp[us]", "UTC", "when the first trial's training began"),
        Column("arm", "string", "", "name of the arm; the run's first one has no baseline"),
        Column("seeds", "int64", "trials", "of the arm that are compared"),
        Column("diverged", "int64", "trials", "of the arm that diverged"),
        Column("settings", "int64", "settings", "that tuning tried; null where the arm was not tuned"),
        Column("setting", "string", "", "that tuning chose, as JSON: values by path"),
        Column("split", "string", "", "that the medians are taken on: test or validation"),
        Column("median_accuracy", "float64", "fraction", "over the seeds that are compared"),
        Column("median_cross_entropy", "float64", "nat", "over the seeds that are compared"),
        Column("baseline", "string", "", "arm that this one is compared with"),
        Column("metric", "string", "", "that they are compared by, as study.metric names it"),
        Column("confidence", "float64", "fraction", "level of the interval"),
        Column("mean_difference", "float64", "of metric", "this arm minus baseline, paired by seed"),
        Column("interval_low", "float64", "of metric", "bound of the mean; null with too few seeds"),
        Column("interval_high", "float64", "of metric", "bound of the mean; null with too few seeds"),
        Column("p_value", "float64", "probability", "two-sided sign-flip test, Holm-corrected, at all looks"),
        Column("answer", "string", "", "shown, not shown or no difference"),
        Column("better", "string", "", "the better arm where the answer is shown"),
        Column("images_low", "float64", "of metric", "bound of the mean for other images of the kind"),
        Column("images_high", "float64", "of metric", "bound of the mean for other images of the kind"),
        Column("images_answer", "string", "", "the answer for other images of the kind"),
        Column("seeds_needed", "int64", "seeds", "that would show such a difference with 80 % chance"),
        Column("images_needed", "int64", "images", "that would show it for others of the kind, too"),
        Column("sentence", "string", "", "the verdict in words"),
        Column("processor_seconds", "float64", "s", "of the whole run until its report was made"),
        Column("accelerator_seconds", "float64", "s", "likewise"),
        Column("price", "float64", "currency", "likewise; null where the deployment names no prices"),
        Column("currency", "string", "", "of the price"),
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

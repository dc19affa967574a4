"""The histories of a run as one Parquet file; the files of many runs are one table, found by a glob.

    SELECT * FROM '<root>/runs/**/history.parquet'

The last stage writes it, once every trial has ended: a run's trials become visible together, a retried task
leaves no second copy of a trial, and only then is all known that a row needs to stand beside those of other
runs. While a trial trains, and when a run fails, its rows are in the JSON-lines file that it is made from.
"""

import datetime
import itertools
from collections.abc import Iterable
from typing import Any

from optduel.components.core.errors import DataError, ExperimentError
from optduel.components.results.history import Row
from optduel.components.results.parquet import Column, Schema, decode, encode
from optduel.components.settings.authoring import validate
from optduel.components.settings.experiment import Section
from optduel.components.storage.location import Location, join
from optduel.components.storage.objects import publish

HISTORY_NAME = "history.parquet"
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

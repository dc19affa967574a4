"""Tells what was measured while runs trained, trial by trial, and how far they are apart; lists the runs."""

import dataclasses
import difflib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optduel.components.core import DataError, StorageError
from optduel.components.results import (
    HISTORY_NAME,
    Index,
    Row,
    TrialHistory,
    decode_history,
    decode_history_table,
    epochs_of,
    indexed_runs,
    run_folder,
)
from optduel.components.storage import join, read, stat
from optduel.pipeline.cli.tabular import Shown, as_csv, as_json, as_text

_PLACE = ("event", "split", "step")
"""What pairs a row of one history with a row of the other."""


@dataclass(frozen=True)
class Deviation:
    """The result of comparing two histories.

    Attributes:
        compared_rows: that both histories have.
        unpaired_rows: that one of them lacks.
        deviating_columns: in which any two paired rows differ.
        largest_deviation: the largest relative one, |a - b| / max(|a|, |b|): 0 where all are equal, None
            where no rows were compared.
        deviates_most_in: its column, None where there is no deviation.
        deviates_most_at: its optimizer step.
    """

    compared_rows: int
    unpaired_rows: int
    deviating_columns: tuple[str, ...]
    largest_deviation: float | None
    deviates_most_in: str | None = None
    deviates_most_at: int | None = None


def deviation(reference: Sequence[Row], other: Sequence[Row]) -> Deviation:
    """Compares two histories row by row; timing is left out."""
    expected = {_place(row): row for row in reference}
    found = {_place(row): row for row in other}
    places = [place for place in expected if place in found]
    unpaired = len(expected) + len(found) - 2 * len(places)
    largest, column, step = 0.0, None, None
    deviating: dict[str, None] = {}
    for place in places:
        values = found[place].reproducible()
        for name, value in expected[place].reproducible().items():
            if values[name] == value:
                continue
            deviating[name] = None
            relative = _relative(float(value), float(values[name]))
            if relative > largest:
                largest, column, step = relative, name, expected[place].step
    return Deviation(len(places), unpaired, tuple(deviating), largest if places else None, column, step)


def _place(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _PLACE)


def _relative(first: float, second: float) -> float:
    """Two different numbers; the larger one is not 0."""
    return abs(first - second) / max(abs(first), abs(second))


_PARQUET = b"PAR1"
"""Begins every Parquet file."""


@dataclass(frozen=True)
class NamedTrial:
    """The rows of one trial.

    Attributes:
        run: what the person is told; the run's name where the history knows it.
        known: all that the history says of the trial; None for a JSON-lines file, which holds rows alone.
    """

    run: str
    known: TrialHistory | None
    rows: tuple[Row, ...]

    @property
    def pair(self) -> tuple[str, int] | None:
        """What the trial has in common with the trial of another run that it is compared with."""
        return (self.known.arm, self.known.seed) if self.known else None


def read_named(named: str, root: str) -> list[NamedTrial]:
    """The trials of a run.

    Args:
        named: the run's name, its folder, or a history file, Parquet or JSON lines; a path or a URI.
        root: where runs are looked for by name.

    Raises:
        StorageError: nothing of that name is there.
        DataError: what is there is damaged, empty, or no history; or the run left none.
    """
    location = _locate(named, root)
    content = read(location)
    if not content.startswith(_PARQUET):
        trials = [NamedTrial(named, None, decode_history(content, location))]
    else:
        trials = [
            NamedTrial(trial.run, trial, trial.rows) for trial in decode_history_table(content, location)
        ]
    if not any(trial.rows or (trial.known and trial.known.diverged_step is not None) for trial in trials):
        raise DataError(f"{location}: holds no rows yet; wait for the first ones")
    return trials


def _locate(named: str, root: str) -> str:
    place = named.rstrip("/") or named
    folders = [place]
    if "/" not in place and place not in ("", ".", ".."):
        folders.append(run_folder(root, place))
    for location in (place, *(join(folder, HISTORY_NAME) for folder in folders)):
        if stat(location):
            return location
    for folder in folders:
        if stat(join(folder, "run.json")):
            raise DataError(
                f"RUN = {named}: has no {HISTORY_NAME}, which a run leaves when its arms are compared; "
                "a trial's history.jsonl below its folder can be given instead"
            )
    raise StorageError(
        f"RUN = {named}: is neither a history file, nor the folder of a run, nor the name of one below "
        f"{root}{_hint(place, root)}"
    )


def _hint(named: str, root: str) -> str:
    runs = indexed_runs(root)
    if not runs:
        return ", where no run has finished"
    if close := difflib.get_close_matches(named, runs, n=1):
        return f"; did you mean {close[0]!r}?"
    return "; `optduel history` lists those"


Format = Literal["table", "csv", "json"]

_SHORT = 12
"""Characters of a fingerprint that a person is shown."""


def _fixed(decimals: int) -> Callable[[float], str]:
    return lambda value: f"{value:,.{decimals}f}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _deviation_text(value: float) -> str:
    return f"{value:.1e}" if value else "0"


_RUN_COLUMNS = (
    Shown("run", "run"),
    Shown("experiment", "experiment"),
    Shown("fingerprint", "fingerprint", lambda text: str(text)[:_SHORT]),
    Shown("arm", "arm"),
    Shown("seeds", "seeds"),
    Shown("diverged", "diverged"),
    Shown("settings tried", "settings"),
    Shown("split", "split"),
    Shown("accuracy", "median_accuracy", _percent),
    Shown("cross-entropy", "median_cross_entropy", _fixed(4)),
    Shown("p", "p_value", lambda value: f"{value:.2g}"),
    Shown("verdict", "answer"),
    Shown("other images", "images_answer"),
)

_TRIAL_COLUMNS = (
    Shown("run", "run"),
    Shown("arm", "arm"),
    Shown("seed", "seed"),
    Shown("epochs", "epochs"),
    Shown("diverged at step", "diverged_step"),
    Shown("train CE", "train_cross_entropy", _fixed(4)),
    Shown("accuracy", "train_accuracy", _percent),
    Shown("validation CE", "validation_cross_entropy", _fixed(4)),
    Shown("accuracy", "validation_accuracy", _percent),
    Shown("examples/s", "examples_per_second", _fixed(0)),
    Shown("seconds", "wall_seconds", _fixed(1)),
)

_OF_SOME_RUNS = ("diverged", "diverged_step", "settings")
"""Columns that a table has only where a trial diverged, or an arm was tuned."""

_DEVIATION_COLUMN = Shown("deviation", "largest_deviation", _deviation_text)


def list_runs(index: Index, root: str, form: Format) -> str:
    """The finished runs of an index, arm by arm, in the order they started.

    Args:
        index: of the runs below `root`.
    """
    if form == "table":
        if not index.arms:
            return f"no run below {root} has finished yet\n"
        arms = [arm.model_dump() for arm in index.arms]
        return as_text(arms, _needed(_RUN_COLUMNS, arms))
    return _for_programs([arm.model_dump(mode="json") for arm in index.arms], form)


def show_histories(named: Sequence[str], root: str, form: Format) -> str:
    """The trials of one run or several, a record each; those of later runs are compared with the first run's.

    Args:
        named: runs, as `read_named` takes them.
        root: where runs are looked for by name.

    Raises:
        StorageError: one of them is not there.
        DataError: one of them has no readable history.
    """
    runs = [read_named(one, root) for one in named]
    if len({run[0].run for run in runs}) < len(runs):
        # Copies of one run: their places tell them apart, their names do not.
        runs = [
            [dataclasses.replace(trial, run=one) for trial in run]
            for one, run in zip(named, runs, strict=True)
        ]
    reference = runs[0]
    answers = [[_summary(trial) for trial in reference]]
    if len(runs) > 1:
        answers = [[record | _NOT_COMPARED for record in answers[0]]]
        answers += [[_summary(trial) | _against(reference, trial) for trial in run] for run in runs[1:]]
    records = [record for answer in answers for record in answer]
    if form != "table":
        return _for_programs(records, form)
    columns = [*_needed(_TRIAL_COLUMNS, records), *([_DEVIATION_COLUMN] if len(runs) > 1 else [])]
    sentences = [_sentence(reference, run, answer) for run, answer in zip(runs[1:], answers[1:], strict=True)]
    return "\n".join([as_text(records, columns), *sentences])


def _needed(columns: Sequence[Shown], records: Sequence[dict[str, Any]]) -> list[Shown]:
    return [
        column
        for column in columns
        if column.field not in _OF_SOME_RUNS or any(record[column.field] for record in records)
    ]


def _for_programs(records: Sequence[dict[str, Any]], form: Format) -> str:
    return as_json(records) if form == "json" else as_csv(records)


def _summary(trial: NamedTrial) -> dict[str, Any]:
    """Who the trial is, its last epoch, its median speed over the epochs and its time."""
    trained, validated = epochs_of(trial.rows, "train"), epochs_of(trial.rows, "validation")
    known = trial.known.model_dump(mode="json") if trial.known else {}
    identity = ("experiment", "fingerprint", "data_fingerprint", "code_version", "started", "precision")
    return {
        "run": trial.run,
        **{
            name: known.get(name)
            for name in (*identity, "workers", "replicas", "arm", "seed", "diverged_step")
        },
        "epochs": len(trained),
        **_last(trained, "train"),
        **_last(validated, "validation"),
        "examples_per_second": (
            statistics.median(row.examples_per_second for row in trained) if trained else None
        ),
        "wall_seconds": trial.rows[-1].wall_seconds if trial.rows else None,
    }


def _last(epochs: Sequence[Row], split: str) -> dict[str, float | None]:
    last = epochs[-1] if epochs else None
    return {
        f"{split}_cross_entropy": last.cross_entropy if last else None,
        f"{split}_accuracy": last.accuracy if last else None,
    }


_NOT_COMPARED = dict.fromkeys(
    [
        "reference",
        "same_fingerprint",
        "same_records",
        *(field.name for field in dataclasses.fields(Deviation)),
    ]
)
"""What the reference's trials have in place of a comparison."""


def _against(reference: Sequence[NamedTrial], trial: NamedTrial) -> dict[str, Any]:
    """What compares a trial with the same arm and seed of the reference."""
    partner = next((one for one in reference if one.pair == trial.pair), None)
    found = deviation(partner.rows if partner else (), trial.rows)
    return {
        "reference": reference[0].run,
        "same_fingerprint": _same(reference, trial, "fingerprint"),
        "same_records": _same(reference, trial, "data_fingerprint"),
        **dataclasses.asdict(found),
    }


def _same(reference: Sequence[NamedTrial], trial: NamedTrial, field: str) -> bool | None:
    if not (trial.known and reference[0].known):
        return None
    return bool(getattr(trial.known, field) == getattr(reference[0].known, field))


def _sentence(
    reference: Sequence[NamedTrial], run: Sequence[NamedTrial], answer: Sequence[dict[str, Any]]
) -> str:
    """The comparison of a run with the reference, in words."""
    same = {True: "same", False: "other", None: "unknown"}
    told = [
        f"{same[answer[0]['same_fingerprint']]} fingerprint, {same[answer[0]['same_records']]} records",
        *_differences(answer),
    ]
    pairs, expected = {trial.pair for trial in run}, {trial.pair for trial in reference}
    for name, missing in ((run[0].run, expected - pairs), (reference[0].run, pairs - expected)):
        if missing:
            told.append(f"{name} lacks {len(missing)} of the other's trials")
    return f"{run[0].run} against {reference[0].run}: {'; '.join(told)}\n"


def _differences(records: Sequence[dict[str, Any]]) -> list[str]:
    compared = [record for record in records if record["largest_deviation"] is not None]
    rows = sum(record["compared_rows"] for record in compared)
    unpaired = sum(record["unpaired_rows"] for record in compared)
    if not compared:
        return ["no trial in common"]
    told = [f"{len(compared)} trial{'s' if len(compared) > 1 else ''}, {rows} rows compared"]
    if unpaired:
        told.append(f"{unpaired} rows in one of the two only")
    worst = max(compared, key=lambda record: float(record["largest_deviation"]))
    if not worst["largest_deviation"]:
        return [*told, "equal in every reproducible column"]
    columns = sorted({column for record in compared for column in record["deviating_columns"]})
    trial = f"{worst['arm']} seed {worst['seed']}, " if worst["arm"] else ""
    return [
        *told,
        f"largest relative deviation {worst['largest_deviation']:.1e} in {worst['deviates_most_in']} "
        f"({trial}step {worst['deviates_most_at']})",
        f"deviating: {', '.join(columns)}",
    ]

"""Finds the histories that a person names: by a run, by its folder, or by a file."""

import difflib
from dataclasses import dataclass

from optduel.components.core.errors import DataError, StorageError
from optduel.components.results.history import Row, decode_history
from optduel.components.results.history_table import (
    HISTORY_NAME,
    TrialHistory,
    decode_history_table,
    run_folder,
)
from optduel.components.results.run_index import indexed_runs
from optduel.components.storage.location import join
from optduel.components.storage.objects import read, stat

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
    if not any(trial.rows for trial in trials):
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
                f"RUN = {named}: has no {HISTORY_NAME}, which a run leaves when it has finished; "
                "a trial's history.jsonl below its folder can be given instead"
            )
    raise StorageError(
        f"RUN = {named}: is no history file, no folder of a run and no run below {root}{_hint(place, root)}"
    )


def _hint(named: str, root: str) -> str:
    runs = indexed_runs(root)
    if not runs:
        return ", where no run has finished"
    if close := difflib.get_close_matches(named, runs, n=1):
        return f"; did you mean {close[0]!r}?"
    return "; `optduel history` lists those"

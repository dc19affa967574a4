"""Finished trials: whoever asks for the same trial again takes it over instead of training it.

A trial is known by its fingerprint, as records are. `<root>/trials/<fingerprint>.json` says where it lies. It
is copied from there: an artifact of Kubeflow Pipelines may not point into another run. A trial that diverged
is finished, too; it has no model.
"""

import hashlib
import tempfile
from pathlib import Path

from optduel.components.core import DataError, ExperimentError, RefusedError, StorageError, say
from optduel.components.results import (
    Divergence,
    TrainingRecord,
    TunedTrial,
    code_version,
    read_document,
    read_training_end,
)
from optduel.components.settings import Section, decode
from optduel.components.storage import (
    Download,
    Upload,
    as_storage_error,
    download,
    join,
    list_entries,
    publish,
    read,
    stat,
    upload,
)
from optduel.components.train.contract.task import EVENTS, HISTORY, MODEL, RECORD, Task

UNKNOWN_CODE = "-modified"
"""Ends the version of code that differs from its commit: two trials of it need not be the same."""


class FinishedTrial(Section):
    """Where a finished trial lies.

    Attributes:
        output: the trial's folder, relative to the root.
        model_sha256: of its `model.keras`; None where it diverged.
    """

    output: str
    model_sha256: str | None


def finished_record(task: Task) -> TrainingRecord | Divergence | None:
    """The record in the task's own output, where an earlier attempt of this very trial is complete.

    Raises:
        StorageError: the output cannot be looked at.
    """
    if stat(task.record_file) is None:
        return None
    try:
        record = read_training_end(task.record_file)
    except DataError as error:
        say(f"train {task.name}: trains again: {str(error).splitlines()[0]}")
        return None
    return record if record.fingerprint == task.fingerprint else None


def tuned_trial(task: Task) -> TunedTrial | None:
    """What came of a setting that is tuned, where this very trial has ended, in this run or another.

    Raises:
        StorageError: its place cannot be looked at.
    """
    if stat(task.record_file) is None:
        return None
    try:
        found = read_document(task.record_file, TunedTrial)
    except DataError as error:
        say(f"tune {task.name}: trains again: {str(error).splitlines()[0]}")
        return None
    return found if found.fingerprint == task.fingerprint else None


def is_finished(task: Task) -> bool:
    """Whether the trial has ended. Raises StorageError where its place cannot be looked at."""
    return (finished_record(task) if task.setting is None else tuned_trial(task)) is not None


def take_over(task: Task, root: str) -> TrainingRecord | Divergence | None:
    """Copies the same trial of an earlier run to the task's output, if there is a whole one below the root.

    One that this user may not read is trained again, and that is said.

    Args:
        root: of datasets, trials and runs, a path or a URI.

    Returns:
        The trial's record, as its own training wrote it; None where the trial has to be trained.

    Raises:
        StorageError: a place cannot be reached, or the output cannot be written.
    """
    if code_version().endswith(UNKNOWN_CODE):
        return None
    place = _place(root, task)
    try:
        if stat(place) is None:
            return None
        known = decode(FinishedTrial, read(place).decode(), place)
        source = _inside(root, known.output, place)
        record = _copy(task, source, known.model_sha256)
    except (DataError, ExperimentError, RefusedError, UnicodeDecodeError) as error:
        say(f"train {task.name}: trains again: {str(error).splitlines()[0]}")
        return None
    say(f"train {task.name}: takes over {source}, trained {record.started}")
    return record


def register(task: Task, root: str, record: TrainingRecord | Divergence) -> None:
    """Lets later runs find the finished trial, where its output lies below the root.

    Where it cannot be written down, that is said, and no more: the trial is trained all the same.
    """
    prefix = f"{root.rstrip('/')}/"
    if task.output.startswith(prefix) and not code_version().endswith(UNKNOWN_CODE):
        known = FinishedTrial(output=task.output.removeprefix(prefix), model_sha256=_model_of(record))
        try:
            publish(_place(root, task), known.canonical_json().encode())
        except StorageError as error:
            say(f"train {task.name}: later runs will train this trial again: {str(error).splitlines()[0]}")


def _model_of(record: TrainingRecord | Divergence) -> str | None:
    return record.model_sha256 if isinstance(record, TrainingRecord) else None


def _place(root: str, task: Task) -> str:
    return join(root, "trials", f"{task.fingerprint}.json")


def _inside(root: str, output: str, where: str) -> str:
    if output.startswith("/") or not {"", ".", ".."}.isdisjoint(output.split("/")):
        raise DataError(f"{where}: output = {output}: must be a folder below the root")
    return join(root, output)


def _copy(task: Task, source: str, model_sha256: str | None) -> TrainingRecord | Divergence:
    """Copies the trial, the record last: with it the output is complete."""
    record_file = join(source, RECORD)
    needed = [HISTORY] if model_sha256 is None else [HISTORY, MODEL]
    if not all(stat(join(source, name)) for name in (RECORD, *needed)):
        raise DataError(f"{source}: the trial that lay there is gone")
    record = read_training_end(record_file)
    if record.fingerprint != task.fingerprint:
        raise DataError(f"{record_file}: fingerprint = {record.fingerprint}: is of another trial")
    if _model_of(record) != model_sha256:
        raise DataError(f"{record_file}: status = {record.status}: was changed since it was trained")
    events = [entry.uri.rpartition(f"/{EVENTS}/")[2] for entry in list_entries(join(source, EVENTS))]
    names = [*needed, *(f"{EVENTS}/{name}" for name in events)]
    try:
        with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
            files = {name: Path(scratch) / name for name in names}
            download([Download(join(source, name), path) for name, path in files.items()])
            if model_sha256 is not None:
                _check_model(files[MODEL], model_sha256, source)
            upload([Upload(path, join(task.output, name)) for name, path in files.items()])
    except OSError as error:
        raise as_storage_error(error, Path(tempfile.gettempdir())) from error
    publish(task.record_file, record.canonical_json().encode())
    return record


def _check_model(path: Path, expected: str, source: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(f"{join(source, MODEL)}: sha256 = {found}: was changed since it was trained")

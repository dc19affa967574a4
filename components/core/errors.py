"""The errors a user can cure, and how a process reports one before it exits.

    OptduelError
    ├── ExperimentError   the request is wrong
    ├── DataError         the images or the records are wrong
    ├── StorageError      a place cannot be read or written
    │   ├── RefusedError      and will not be: no access, no such place, not a folder
    │   ├── ConflictError     another writer was first
    │   └── DamagedError      what a store holds is not what was written
    ├── TrainingError     the numbers went wrong: a non-finite value
    ├── LaunchError       a worker could not be started, or was lost
    │   └── PeerLostError     the same, seen by the other workers
    ├── SetupError        the deployment's settings of a worker are wrong
    ├── ClusterError      Kubeflow Pipelines or Kubernetes cannot be reached, or refuses
    ├── RunError          a run on a cluster has failed or was cancelled
    ├── OutOfMemoryError  a worker needed more memory than it has
    ├── UnfollowedError   nobody followed the training any more: saved, and ended
    └── StoppedError      asked to stop, and did so after saving

Anything else that is raised is our bug and keeps its traceback.
Every message reads *where = value: rule or remedy*.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from optduel.components.decoding import parse_object
from optduel.components.redaction import showable

TERMINATION_LOG_VARIABLE = "OPTDUEL_TERMINATION_LOG"
"""Names the file that receives one JSON object when a process ends on an OptduelError."""

POD_TERMINATION_LOG = "/dev/termination-log"
"""The file that Kubernetes reads when a container has ended."""

_REPORT_BYTES = 4096
"""What Kubernetes keeps of a termination message."""

_CUT = "..."


class OptduelError(Exception):
    """Base of every error whose message is written for the user; it holds no credentials, whatever is given.

    Attributes:
        worker_exit_code: what a component or worker process exits with (sysexits.h).
        cli_exit_code: what the command line exits with: 2 the request is wrong, 1 the run failed.
    """

    worker_exit_code: ClassVar[int] = 70
    cli_exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(showable(message))


class ExperimentError(OptduelError):
    """The experiment, or another part of the request, breaks a rule."""

    worker_exit_code = 64
    cli_exit_code = 2


class DataError(OptduelError):
    """Images or records are missing, damaged or inconsistent."""

    worker_exit_code = 65
    cli_exit_code = 2


class StorageError(OptduelError):
    """A place cannot be read from or written to."""

    worker_exit_code = 75
    cli_exit_code = 2


class RefusedError(StorageError):
    """A place that refuses every time: access is denied, it is not there, or it is of the wrong kind."""

    worker_exit_code = 78


class ConflictError(StorageError):
    """Another writer was first: the object is not, or no longer, what this write was conditional on."""


class DamagedError(StorageError):
    """An object differs from the checksum that its store keeps, however often it is read."""


class TrainingError(OptduelError):
    """Training cannot go on, whatever the number of attempts."""

    worker_exit_code = 70
    cli_exit_code = 1


class LaunchError(OptduelError):
    """A worker could not be started or was lost; another attempt may succeed."""

    worker_exit_code = 75
    cli_exit_code = 1


class PeerLostError(LaunchError):
    """Another worker of the group was lost or never came; what became of that one is the cause."""


class SetupError(OptduelError):
    """What the deployment gives a worker is wrong: its place in a group, or GPUs that cannot be used."""

    worker_exit_code = 78
    cli_exit_code = 1


class ClusterError(OptduelError):
    """Kubeflow Pipelines or Kubernetes cannot be reached, does not know the caller, or refuses."""

    worker_exit_code = 75
    cli_exit_code = 2


class RunError(OptduelError):
    """A run on a cluster has failed or was cancelled."""

    worker_exit_code = 70
    cli_exit_code = 1


class OutOfMemoryError(OptduelError):
    """A worker needed more memory than it was given."""

    worker_exit_code = 137
    cli_exit_code = 1


class UnfollowedError(OptduelError):
    """Nobody followed a training job any more; it was ended after saving, and another one may go on."""

    worker_exit_code = 69
    cli_exit_code = 1


class StoppedError(OptduelError):
    """A worker was asked to stop, and did so after saving."""

    worker_exit_code = 143
    cli_exit_code = 1


ERROR_TYPES: dict[str, type[OptduelError]] = {
    name: kind
    for name, kind in list(globals().items())
    if isinstance(kind, type) and issubclass(kind, OptduelError) and kind is not OptduelError
}
"""All of the above by name, as reports name them."""


@contextlib.contextmanager
def exit_on_error(stage: str, details: Callable[[], Mapping[str, int | str]] = dict) -> Iterator[None]:
    """Ends the process with one message and a documented code when the body raises an OptduelError.

    The message goes to standard error and, as `write_termination` does it, to the file that
    OPTDUEL_TERMINATION_LOG names, so that whoever started this process can repeat it.

    Args:
        stage: the name shown before the message, for example "prepare".
        details: what else is known when the body fails, for example {"worker": 1, "step": 120}.

    Raises:
        SystemExit: with the error's `worker_exit_code`.
    """
    try:
        yield
    except OptduelError as error:
        print(f"{stage} failed: {error}", file=sys.stderr, flush=True)
        write_termination(stage, error, details())
        raise SystemExit(error.worker_exit_code) from error


def write_termination(stage: str, error: OptduelError, details: Mapping[str, int | str]) -> None:
    """Writes `error` where OPTDUEL_TERMINATION_LOG points; a first message stays, nearest to the cause.

    But a StoppedError tells no cause; the reason for the request to stop may come later, and replaces it.
    The file holds one JSON object with the keys `stage`, `error`, `message` and `exit_code`, and those of
    `details`. On Kubernetes it exists from the start and is empty; an empty or half-written one is filled.
    Where it cannot be written, standard error says so: the cause and its exit code have to come out.
    """
    target = os.environ.get(TERMINATION_LOG_VARIABLE)
    if not target:
        return
    try:
        _write_once(target, stage, error, details)
    except OSError as failure:
        where = f"{stage}: {TERMINATION_LOG_VARIABLE} = {target}"
        print(f"{where}: cannot be written ({failure.strerror})", file=sys.stderr, flush=True)


def _write_once(target: str, stage: str, error: OptduelError, details: Mapping[str, int | str]) -> None:
    with open(os.open(target, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read()
        if _reported(before) not in (None, StoppedError.__name__):
            return
        message, content = str(error), _encode(stage, error, str(error), details)
        while len(content) > _REPORT_BYTES and message != _CUT:
            # Never more than has to go: a character takes 1 to 6 bytes.
            characters = max(1, (len(content) - _REPORT_BYTES) // 6)
            message = message.removesuffix(_CUT)[:-characters] + _CUT
            content = _encode(stage, error, message, details)
        file.seek(0)
        file.truncate()
        file.write(content)


def read_termination(path: Path) -> OptduelError | None:
    """The error that a process reported at `path`; None when it reported none, or not to its end."""
    try:
        termination = decode_termination(path.read_bytes())
    except FileNotFoundError:
        return None
    return termination.error if termination else None


class Termination(NamedTuple):
    """What a process reported of its end.

    Attributes:
        stage: that failed, for example "prepare".
        error: with the process's own words.
        exit_code: of the process; a container around it may have ended with another one.
        details: what else it told, for example "step".
    """

    stage: str
    error: OptduelError
    exit_code: int
    details: Mapping[str, int | str]


def decode_termination(content: bytes | str) -> Termination | None:
    """The report that `write_termination` wrote; None for anything else.

    It may stand behind words of others that hold no brace, as in the message of a node of Argo, "main: Error
    (exit code 1): {...}". Its end may be missing, because Kubernetes keeps less of a pod with many
    containers: then the message is as much of it as is there.
    """
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    begin = text.find("{")
    report = _decode(text[begin:]) if begin >= 0 else None
    if report is None:
        return None
    stage, name, message = (report.pop(key, None) for key in ("stage", "error", "message"))
    code = report.pop("exit_code", None)
    is_ours = all(isinstance(one, str) for one in (stage, name, message)) and type(code) is int
    if not is_ours or name not in ERROR_TYPES:
        return None
    details = {key: value for key, value in report.items() if isinstance(value, int | str)}
    return Termination(stage, ERROR_TYPES[name](message), code, details)


def _decode(text: str) -> dict[str, Any] | None:
    """A JSON object at the beginning of a text, or one that breaks off within a text."""
    # An escape that was cut in two takes up to five characters.
    endings = ["", *(f'{_CUT}"}}' for _ in range(6))]
    for number, ending in enumerate(endings):
        with contextlib.suppress(ValueError, RecursionError):
            found, _ = json.JSONDecoder().raw_decode(text[: len(text) - max(0, number - 1)] + ending)
            return found if isinstance(found, dict) else None
    return None


def _reported(content: bytes) -> str | None:
    """The kind of error that a report tells; None where it is not complete."""
    try:
        return str(parse_object(content)["error"])
    except (ValueError, KeyError):
        return None


def _encode(stage: str, error: OptduelError, message: str, details: Mapping[str, int | str]) -> bytes:
    report = {
        "stage": stage,
        "error": type(error).__name__,
        "exit_code": error.worker_exit_code,
        **details,
        # Last: Kubernetes cuts the end in a pod of four or more containers.
        "message": message,
    }
    return json.dumps(report, ensure_ascii=False).encode(errors="backslashreplace")

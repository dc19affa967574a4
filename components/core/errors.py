"""The errors a user can cure, and how a process reports one before it exits.

    OptduelError
    ├── ExperimentError   the request is wrong
    ├── DataError         the images or the records are wrong
    ├── StorageError      a place cannot be read or written
    ├── TrainingError     the numbers went wrong: a non-finite value
    └── LaunchError       workers could not be started, or one was lost

Anything else that is raised is our bug and keeps its traceback.
Every message reads *where = value: rule or remedy*.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

TERMINATION_LOG_VARIABLE = "OPTDUEL_TERMINATION_LOG"
"""Names the file that receives one JSON object when a process ends on an OptduelError."""


class OptduelError(Exception):
    """Base of every error whose message is written for the user.

    Attributes:
        worker_exit_code: what a component or worker process exits with (sysexits.h).
        cli_exit_code: what the command line exits with: 2 the request is wrong, 1 the run failed.
    """

    worker_exit_code: ClassVar[int] = 70
    cli_exit_code: ClassVar[int] = 1


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


class TrainingError(OptduelError):
    """Training cannot go on, whatever the number of attempts."""

    worker_exit_code = 70
    cli_exit_code = 1


class LaunchError(OptduelError):
    """A worker could not be started or was lost; another attempt may succeed."""

    worker_exit_code = 75
    cli_exit_code = 1


ERROR_TYPES: dict[str, type[OptduelError]] = {
    error.__name__: error for error in (ExperimentError, DataError, StorageError, TrainingError, LaunchError)
}


@contextlib.contextmanager
def exit_on_error(stage: str) -> Iterator[None]:
    """Ends the process with one message and a documented code when the body raises an OptduelError.

    The message goes to standard error and, as JSON with the keys `stage`, `error` and `message`,
    to the file that OPTDUEL_TERMINATION_LOG names, so that whoever started this process can repeat it. Where
    that file exists already, a process of the same run has failed, and the body is not begun.

    Args:
        stage: the name shown before the message, for example "prepare".

    Raises:
        SystemExit: with the error's `worker_exit_code`, or 75 where the body was not begun.
    """
    reported = os.environ.get(TERMINATION_LOG_VARIABLE)
    if reported and Path(reported).exists():
        print(f"{stage} not begun: another part of this run has failed", file=sys.stderr, flush=True)
        raise SystemExit(LaunchError.worker_exit_code)
    try:
        yield
    except OptduelError as error:
        print(f"{stage} failed: {error}", file=sys.stderr, flush=True)
        write_termination(stage, error)
        raise SystemExit(error.worker_exit_code) from error


def write_termination(stage: str, error: OptduelError) -> None:
    """Writes `error` where OPTDUEL_TERMINATION_LOG points; a first message stays, nearest to the cause."""
    target = os.environ.get(TERMINATION_LOG_VARIABLE)
    if not target:
        return
    message = {"stage": stage, "error": type(error).__name__, "message": str(error)}
    with contextlib.suppress(FileExistsError), Path(target).open("x", encoding="utf-8") as file:
        json.dump(message, file)


def read_termination(path: Path) -> OptduelError | None:
    """The error that a process reported at `path`, or None when it reported none."""
    try:
        message = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return ERROR_TYPES[message["error"]](message["message"])

"""What TensorFlow's exceptions mean for a group of workers: whose fault one is, and what helps."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from optduel.components.core import OutOfMemoryError, PeerLostError, StorageError

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
)

_OF_A_GROUP = re.compile(r"collective|coordination|heartbeat|peer|/job:worker|grpc", re.IGNORECASE)
"""In the message of an error whose type says nothing: it came out of the talk between workers."""

_WHERE = re.compile(
    r'Graph execution error:|Detected at node |File "|<stack traces unavailable>|\d+ root error'
)
"""Begins the lines of a message that tell where in a graph an error was met; why comes after them."""


@contextlib.contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """Raises the failures that TensorFlow meets in the body as errors for the user.

    Args:
        name: of the trial and worker, for messages.

    Raises:
        PeerLostError: another worker does not answer any more.
        OutOfMemoryError: memory of the processor or a device ran out.
        StorageError: a disk is full.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        if "No space left on device" in str(error):
            raise StorageError(f"{name}: {_first_line(error)}; free some space and start again") from error
        raise OutOfMemoryError(
            f"{name}: {_first_line(error)}: lower training.global_batch_size, use more workers, or give each "
            "more memory"
        ) from error
    except _LOST as error:
        raise _peer_lost(name, error) from error
    except (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.FailedPreconditionError) as error:
        if not _OF_A_GROUP.search(str(error)):
            raise
        raise _peer_lost(name, error) from error


def _peer_lost(name: str, error: Exception) -> PeerLostError:
    return PeerLostError(
        f"{name}: lost another worker: {_first_line(error)}; that worker's own report names the cause"
    )


def _first_line(error: BaseException) -> str:
    """TensorFlow's messages go on for pages; the first line that says why is enough."""
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    return next((line for line in lines if line and not _WHERE.match(line)), type(error).__name__)[:500]

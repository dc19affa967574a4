"""What TensorFlow's exceptions are told as."""

import pytest

from optduel.components.core import OptduelError, OutOfMemoryError, PeerLostError, StorageError


@pytest.mark.parametrize(
    ("kind", "message", "error"),
    [
        ("UnavailableError", "failed to connect to all addresses", PeerLostError),
        ("AbortedError", "Connection reset by peer", PeerLostError),
        ("DeadlineExceededError", "RPC Heartbeat", PeerLostError),
        ("CancelledError", "step was cancelled", PeerLostError),
        ("InternalError", "Collective ops is aborted by: ...", PeerLostError),
        ("UnknownError", "Could not start gRPC server", PeerLostError),
        ("ResourceExhaustedError", "OOM when allocating tensor", OutOfMemoryError),
        ("ResourceExhaustedError", "/data/x: No space left on device", StorageError),
    ],
)
def test_failures_of_the_machine_and_of_peers_are_told_apart(
    kind: str, message: str, error: type[OptduelError]
) -> None:
    import tensorflow as tf

    from optduel.components.train.worker.tensorflow_errors import in_our_words

    with pytest.raises(error) as raised, in_our_words("worker 0"):
        raise getattr(tf.errors, kind)(None, None, f"\n{message}\nand a page of details")
    assert type(raised.value) is error
    assert message in str(raised.value)
    assert "details" not in str(raised.value)


IN_A_GRAPH = """Graph execution error:

Detected at node while/CollectiveReduceV2 defined at (most recent call last):
  File "loop.py", line 12, in train

<stack traces unavailable>
Collective ops is aborted by: recvmsg:Connection reset by peer
The error could be from a previous operation. Restart your program to reset."""
"""As TensorFlow 2.21 tells a lost peer, but for longer."""


def test_the_cause_is_told_and_not_where_in_the_graph_it_was_met() -> None:
    import tensorflow as tf

    from optduel.components.train.worker.tensorflow_errors import in_our_words

    with pytest.raises(PeerLostError) as raised, in_our_words("worker 0"):
        raise tf.errors.UnavailableError(None, None, IN_A_GRAPH)
    assert str(raised.value) == (
        "worker 0: lost another worker: Collective ops is aborted by: recvmsg:Connection reset by peer; "
        "that worker's own report names the cause"
    )


def test_memory_of_the_processor_counts_too() -> None:
    from optduel.components.train.worker.tensorflow_errors import in_our_words

    message = "worker 0: MemoryError: lower training.global_batch_size"
    with pytest.raises(OutOfMemoryError, match=message), in_our_words("worker 0"):
        raise MemoryError


def test_what_nobody_foresaw_stays_as_it_is() -> None:
    import tensorflow as tf

    from optduel.components.train.worker.tensorflow_errors import in_our_words

    with pytest.raises(tf.errors.InternalError), in_our_words("worker 0"):
        raise tf.errors.InternalError(None, None, "cuDNN launch failure")
    with pytest.raises(tf.errors.InvalidArgumentError), in_our_words("worker 0"):
        raise tf.errors.InvalidArgumentError(None, None, "collective shapes differ")

"""Workers find each other before TensorFlow starts, because TensorFlow waits without end and without a word.

A worker listens on its own port and greets every peer. Either of a pair may be the one that gets through:
whoever is greeted knows the other, so that nobody still looks for a worker that has gone on to TensorFlow.
"""

import contextlib
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping

from optduel.components.core import LaunchError, PeerLostError
from optduel.components.train.worker.group import PEERS_VARIABLE, Group

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
_POLL_SECONDS = 0.02
_GREETING_BYTES = 64

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: a connection that only asked leaves no TIME_WAIT on the port that TensorFlow needs next."""


def wait_for_peers(group: Group, seconds: float, tick: Callable[[], None]) -> None:
    """Waits until every peer's name resolves and its port answers.

    Args:
        group: this worker and its peers.
        seconds: how long at most, from now.
        tick: called about fifty times a second; what it raises ends the wait.

    Raises:
        PeerLostError: a peer did not answer in time; says which one, where, and why.
        LaunchError: another process uses this worker's port.
    """
    if not group.peers:
        return
    others = [index for index in range(len(group.peers)) if index != group.index]
    reasons = dict.fromkeys(others, "not tried yet")
    heard = {index: threading.Event() for index in others}
    over = threading.Event()
    deadline = time.monotonic() + seconds
    with _listening(group, heard):
        try:
            # In threads, because a name can take the resolver many seconds, which nothing interrupts.
            for index in others:
                threading.Thread(
                    target=_reach, args=(group, index, reasons, heard[index], over), daemon=True
                ).start()
            while missing := {index: reason for index, reason in reasons.items() if reason}:
                tick()
                if time.monotonic() > deadline:
                    raise _missing(group, missing, seconds)
                time.sleep(_POLL_SECONDS)
        finally:
            over.set()


def _missing(group: Group, reasons: dict[int, str], seconds: float) -> PeerLostError:
    told = "; ".join(f"worker {index} ({group.address(index)}): {why}" for index, why in reasons.items())
    count = f"{len(reasons)} of {len(group.peers)} workers"
    return PeerLostError(
        f"worker {group.index}: {count} did not answer within compute.start_seconds = {seconds:g}: {told}"
    )


def _greeting(group: Group, index: int) -> bytes:
    """What a worker says to another: which one it is, and of which group."""
    addresses = ",".join(group.address(peer) for peer in range(len(group.peers)))
    return f"optduel {zlib.crc32(addresses.encode()):08x} {index}".ljust(_GREETING_BYTES).encode()


def _reach(
    group: Group, index: int, reasons: dict[int, str], heard: threading.Event, over: threading.Event
) -> None:
    pause = _FIRST_PAUSE_SECONDS
    while reasons[index] and not over.is_set():
        reasons[index] = _why_unreachable(group, index, heard)
        # Jitter, so that a thousand workers do not ask the name server in step.
        (over if heard.is_set() else heard).wait(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _why_unreachable(group: Group, index: int, heard: threading.Event) -> str:
    """The reason in words; nothing when the peer's name resolves and it answers, or has greeted us."""
    host, port = group.peers[index]
    try:
        socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        if heard.is_set():
            return ""
        with socket.create_connection((host.strip("[]"), port), _ANSWER_SECONDS) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection.sendall(_greeting(group, group.index))
            # TensorFlow, should it be there already, says something of its own.
            if not connection.recv(1):
                return f"another program answers there, or a worker that was told other {PEERS_VARIABLE}"
    except socket.gaierror as error:
        return f"its name does not resolve ({error.strerror})"
    except UnicodeError:
        return "its name is no host name"
    except ConnectionRefusedError:
        return "its port refuses connections: the worker does not run"
    except TimeoutError:
        return "no answer: its machine is down or cut off"
    except OSError as error:
        return f"it cannot be reached ({error.strerror})"
    return ""


@contextlib.contextmanager
def _listening(group: Group, heard: Mapping[int, threading.Event]) -> Iterator[None]:
    """Answers greetings on this worker's port, on all interfaces, as TensorFlow will."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        listener = socket.create_server(("", group.port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise LaunchError(
            f"worker {group.index}: cannot listen on its port {group.port} ({error.strerror}); "
            "end the process that uses it, or give the worker another port"
        ) from error
    with listener:
        threading.Thread(target=_answer, args=(listener, group, heard), daemon=True).start()
        try:
            yield
        finally:
            # Wakes the thread: a descriptor that is only closed stays in use while accept() waits on it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _answer(listener: socket.socket, group: Group, heard: Mapping[int, threading.Event]) -> None:
    greetings = {_greeting(group, index): event for index, event in heard.items()}
    with contextlib.suppress(OSError):  # the listener was closed
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # a stranger that says nothing, or has gone
                connection.settimeout(_ANSWER_SECONDS)
                greeting = connection.recv(_GREETING_BYTES, socket.MSG_WAITALL)
                if greeting in greetings:
                    greetings[greeting].set()
                    connection.sendall(b"!")

"""Workers find each other, over real sockets, or say who is missing and why."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest

from optduel.components.core import LaunchError, OptduelError, PeerLostError, StoppedError
from optduel.components.train.worker.group import Group
from optduel.components.train.worker.rendezvous import wait_for_peers


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def no_tick() -> None:
    pass


def in_threads(*waits: Callable[[], None]) -> list[OptduelError | None]:
    results: list[OptduelError | None] = [None] * len(waits)

    def run(index: int) -> None:
        try:
            waits[index]()
        except OptduelError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(waits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def test_a_worker_alone_waits_for_nobody() -> None:
    wait_for_peers(Group(), 0.0, no_tick)


def test_a_group_meets_however_late_one_comes() -> None:
    peers = tuple(("127.0.0.1", port) for port in free_ports(3))

    def wait(index: int) -> None:
        time.sleep(0.4 * index)
        wait_for_peers(Group(peers, index), 10.0, no_tick)
        # What TensorFlow does next: it takes the port, and answers those who still wait.
        with socket.create_server(("", peers[index][1])):
            time.sleep(1.0)

    assert in_threads(*(lambda index=index: wait(index) for index in range(3))) == [None] * 3


def test_who_is_missing_is_named_with_address_and_reason() -> None:
    own, absent = free_ports(2)
    group = Group((("127.0.0.1", own), ("127.0.0.1", absent), ("worker-2.invalid", 2222)), 0)
    began = time.monotonic()
    with pytest.raises(PeerLostError) as raised:
        wait_for_peers(group, 0.5, no_tick)
    assert time.monotonic() - began < 3
    message = str(raised.value)
    assert message.startswith("worker 0: 2 of 3 workers did not answer within compute.start_seconds = 0.5: ")
    assert f"worker 1 (127.0.0.1:{absent}): its port refuses connections" in message
    assert "worker 2 (worker-2.invalid:2222): its name does not resolve" in message


def test_a_port_in_use_is_named() -> None:
    (other,) = free_ports(1)
    with socket.create_server(("", 0)) as used:
        port = used.getsockname()[1]
        with pytest.raises(LaunchError, match=f"cannot listen on its port {port}"):
            wait_for_peers(Group((("127.0.0.1", port), ("127.0.0.1", other)), 0), 5.0, no_tick)


def test_the_wait_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the resolver keeps a thread for long, which no signal can interrupt."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    ticks = iter(range(10))

    def tick() -> None:
        if next(ticks) == 9:
            raise StoppedError("asked to stop")

    began = time.monotonic()
    with pytest.raises(StoppedError):
        wait_for_peers(Group((("127.0.0.1", free_ports(1)[0]), ("slow", 1)), 0), 60.0, tick)
    assert time.monotonic() - began < 2


def meet(peers: tuple[tuple[str, int], ...]) -> list[OptduelError | None]:
    waits = [lambda index=index: wait_for_peers(Group(peers, index), 8.0, no_tick) for index in range(2)]
    return in_threads(*waits)


def test_the_port_is_free_afterwards() -> None:
    peers = tuple(("127.0.0.1", port) for port in free_ports(2))
    assert meet(peers) == [None, None]
    for _, port in peers:
        with socket.create_server(("", port)):
            pass


def test_two_that_start_together_need_no_second_try() -> None:
    """Otherwise the later one would wait until TensorFlow has opened the port of the one that went on."""
    for _ in range(10):
        peers = tuple(("127.0.0.1", port) for port in free_ports(2))
        began = time.monotonic()
        assert meet(peers) == [None, None]
        assert time.monotonic() - began < 1.5


def answer_with(server: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)
                connection.recv(64, socket.MSG_WAITALL)


@pytest.mark.parametrize("answer", [b"SETTINGS", b""], ids=["tensorflow", "stranger"])
def test_a_peer_that_went_on_is_recognized_and_a_stranger_is_not(answer: bytes) -> None:
    (own,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_with, args=(server, answer), daemon=True).start()
        group = Group((("127.0.0.1", own), server.getsockname()), 0)
        if answer:
            wait_for_peers(group, 5.0, no_tick)
        else:
            with pytest.raises(PeerLostError, match="another program answers there"):
                wait_for_peers(group, 0.5, no_tick)
        server.shutdown(socket.SHUT_RDWR)


def test_workers_that_were_told_different_groups_do_not_meet() -> None:
    ports = free_ports(3)
    three = tuple(("127.0.0.1", port) for port in ports)
    waits = [
        lambda: wait_for_peers(Group(three[:2], 0), 1.0, no_tick),
        lambda: wait_for_peers(Group(three, 1), 1.0, no_tick),
    ]
    errors = in_threads(*waits)
    assert all(isinstance(error, PeerLostError) for error in errors)
    assert "told other OPTDUEL_PEERS" in str(errors[0])


def test_a_stranger_does_not_keep_the_door() -> None:
    """A port scanner that says nothing delays nobody for long."""
    peers = tuple(("127.0.0.1", port) for port in free_ports(2))
    waits = [lambda index=index: wait_for_peers(Group(peers, index), 8.0, no_tick) for index in range(2)]

    def scan() -> None:
        time.sleep(0.1)
        with contextlib.suppress(OSError), socket.create_connection(peers[0], 1) as scanner:
            scanner.recv(1)

    assert in_threads(waits[0], lambda: (scan(), waits[1]())) == [None, None]

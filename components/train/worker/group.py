"""Which group a worker belongs to, as its environment tells, and how TensorFlow is told."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from optduel.components.core import SetupError

PEERS_VARIABLE = "OPTDUEL_PEERS"
"""Names all workers in order, itself included: host:port,host:port,... Absent for a worker alone."""

INDEX_VARIABLE = "OPTDUEL_WORKER_INDEX"
"""Says which of them a worker is, from 0; apart from the list, since a Job's pods differ in it only."""


@dataclass(frozen=True)
class Group:
    """A worker among its peers.

    Attributes:
        peers: host and port of every worker, itself included; empty for a worker alone.
        index: which of them this one is; 0 is the chief.
    """

    peers: tuple[tuple[str, int], ...] = ()
    index: int = 0

    @property
    def port(self) -> int:
        """Where this worker listens."""
        return self.peers[self.index][1]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names or addresses of all workers' machines, each once, without the brackets of IPv6."""
        return tuple(dict.fromkeys(host.strip("[]") for host, _ in self.peers))

    @property
    def workers_on_this_host(self) -> int:
        """How many workers share this one's machine: those with its host name."""
        return sum(host == self.peers[self.index][0] for host, _ in self.peers) if self.peers else 1

    @property
    def place_on_this_host(self) -> int:
        """Which of the workers on its machine this one is, from 0."""
        return sum(host == self.peers[self.index][0] for host, _ in self.peers[: self.index])

    def address(self, index: int) -> str:
        """A worker's address, for TensorFlow and for people."""
        host, port = self.peers[index]
        return f"{host}:{port}"

    def tf_config(self) -> str | None:
        """The group as TensorFlow wants it in TF_CONFIG; None for a worker alone."""
        if not self.peers:
            return None
        addresses = [self.address(index) for index in range(len(self.peers))]
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": addresses}, "task": task})


def group_from_environment(environment: Mapping[str, str], workers: int) -> Group:
    """Reads a worker's group; one that contradicts itself is refused, never taken for a worker alone.

    Args:
        environment: of this process.
        workers: how many there have to be, `compute.workers`.

    Raises:
        SetupError: a variable is missing, malformed or out of range.
    """
    told = environment.get(PEERS_VARIABLE, "")
    if not told and workers == 1:
        return Group()
    if not told:
        raise SetupError(
            f"{PEERS_VARIABLE} is not set: compute.workers = {workers}, and each needs the addresses of all"
        )
    peers = tuple(_peer(told, entry) for entry in told.split(","))
    if doubled := [f"{host}:{port}" for (host, port), times in Counter(peers).items() if times > 1]:
        raise SetupError(f"{PEERS_VARIABLE} = {told}: names {doubled[0]} twice")
    if len(peers) != workers:
        raise SetupError(f"{PEERS_VARIABLE} = {told}: names {len(peers)}, but compute.workers = {workers}")
    index = environment.get(INDEX_VARIABLE, "")
    if not (index.isascii() and index.isdigit() and int(index) < workers):
        raise SetupError(f"{INDEX_VARIABLE} = {index or 'not set'}: must be 0 to {workers - 1}")
    return Group(peers, int(index)) if workers > 1 else Group()


def _peer(told: str, entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":")
    if not host or host != host.strip() or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SetupError(f"{PEERS_VARIABLE} = {told}: {entry or 'an empty entry'} is not host:port")
    return host, int(port)

"""What every test starts from: a clean environment, no network, and the same random examples each time."""

import errno
import gc
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records
from optduel.pipeline.cli.shipped import load_experiment
from tests.forking.fixtures import forking_python, quick_starts
from tests.servers.fixtures import (
    fake_gcs_url,
    gs_proxy,
    moto_proxy,
    moto_url,
    place,
    place_of,
    s3_proxy,
    seaweedfs_url,
)

__all__ = [
    "fake_gcs_url",
    "forking_python",
    "gs_proxy",
    "moto_proxy",
    "moto_url",
    "place",
    "place_of",
    "quick_starts",
    "s3_proxy",
    "seaweedfs_url",
]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported

# A slow machine is no defect, and a suite that finds different examples each time cannot be bisected.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")


LONG_SECONDS = 1200
"""The time limit of a test that is marked slow or exhaustive, on a machine with much else to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives long tests their time, and puts the files first that hold most of them, so that none is last."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
    # Modules and tests stay to the end: no collection of garbage has to look through them.
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller's shell reaches the code under test."""
    for name in list(os.environ):
        if name.startswith("OPTDUEL_") or name == "TF_CONFIG":
            monkeypatch.delenv(name)


@pytest.fixture
def staging(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies of stored records go: a folder of the test's own."""
    folder = tmp_path / "staging"
    monkeypatch.setenv("OPTDUEL_STAGING", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host but this one is unreachable, by name and by address, as on a machine without a network."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if not _is_local(self.family, address):
            raise OSError(errno.ENETUNREACH, f"tests have no network: {address}")
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        return connect_ex(self, address) if _is_local(self.family, address) else errno.ENETUNREACH

    def guarded_getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_local_host(host):
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {host}")
        return getaddrinfo(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _is_local(family: int, address: Any) -> bool:
    return family not in (socket.AF_INET, socket.AF_INET6) or _is_local_host(address[0])


def _is_local_host(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in (None, "", "localhost", "0.0.0.0", "::", "::1", socket.gethostname()) or name.startswith(
        "127."
    )


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """The shipped digits as records, by the real writer: batches of 64 leave a ragged last one."""
    return prepare_records(load_experiment("digits").data, str(tmp_path_factory.mktemp("digits")))

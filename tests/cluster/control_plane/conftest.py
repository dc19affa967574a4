"""A disposable cluster, named by OPTDUEL_TEST_KUBECONFIG: kind with Kubeflow Trainer, for example."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane.disposable import STEPS, Disposable, missing


@pytest.fixture(scope="session")
def disposable() -> Iterator[Disposable]:
    """A namespace with our manifests; skips where there is no cluster."""
    if reason := missing():
        pytest.skip(reason)
    with Disposable() as made:
        yield made


@pytest.fixture(autouse=True)
def no_network() -> None:
    """Takes the place of the guard of all other tests: a cluster is seldom on this host's own addresses."""


@pytest.fixture
def as_steps(disposable: Disposable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the service account as which Kubeflow Pipelines' steps run."""
    monkeypatch.setenv("KUBECONFIG", str(disposable.write_kubeconfig(tmp_path / "kubeconfig", STEPS)))

"""The image that `make images` built, named by OPTDUEL_TEST_IMAGE, and an engine to run it."""

from collections.abc import Iterator

import pytest

from tests.cluster.containers.podman import IMAGE, Podman, missing


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Podman; skips where containers cannot be run."""
    if reason := missing():
        pytest.skip(reason)
    return Podman(tmp_path_factory.mktemp("podman"))


@pytest.fixture(scope="session")
def image(podman: Podman) -> str:
    """The name of the image under test."""
    assert IMAGE is not None
    return IMAGE


@pytest.fixture(scope="session")
def docker_host(podman: Podman) -> Iterator[str]:
    """Where podman answers docker's clients."""
    with podman.service() as address:
        yield address

"""The stores that faults are injected into."""

from pathlib import Path

import pytest

from tests.servers.places import Place, PlaceOf


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, place_of: PlaceOf) -> Place:
    """The stores that faults are injected into."""
    return place_of(request.param)


@pytest.fixture(params=["local", "file", "gs", "s3", "minio", "moto"])
def root(request: pytest.FixtureRequest, tmp_path: Path, place_of: PlaceOf) -> str:
    """A folder of every kind of store."""
    if request.param == "local":
        return str(tmp_path)
    if request.param == "file":
        return f"file://{tmp_path}"
    return place_of(request.param).root

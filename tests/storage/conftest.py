"""A folder of every kind of store."""

from pathlib import Path

import pytest

from tests.servers.places import PlaceOf


@pytest.fixture(params=["local", "file", "gs", "s3", "minio", "moto"])
def root(request: pytest.FixtureRequest, tmp_path: Path, place_of: PlaceOf) -> str:
    """A folder of every kind of store."""
    if request.param == "local":
        return str(tmp_path)
    if request.param == "file":
        return f"file://{tmp_path}"
    return place_of(request.param).root

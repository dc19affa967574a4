"""Object stores on loopback for the writers of records."""

from pathlib import Path

import pytest

from tests.servers.places import PlaceOf


@pytest.fixture(autouse=True)
def copies_of_its_own(staging: Path) -> None:
    """No test finds what another has staged."""


@pytest.fixture(params=["local", "gs", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, place_of: PlaceOf) -> str:
    """A place for data sets of each kind."""
    return str(tmp_path / "root") if request.param == "local" else place_of(request.param).root

"""Object stores on loopback for the writers of records."""

from pathlib import Path

import pytest

from tests.servers.places import Place, PlaceOf


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, place_of: PlaceOf) -> Place:
    return place_of(request.param)


@pytest.fixture(autouse=True)
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies go."""
    monkeypatch.setenv("OPTDUEL_STAGING", str(tmp_path / "staging"))
    return tmp_path / "staging"


@pytest.fixture(params=["local", "gs", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, place_of: PlaceOf) -> str:
    """A place for data sets of each kind."""
    return str(tmp_path / "root") if request.param == "local" else place_of(request.param).root

"""Data sets in stores and a staging folder of each test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.experiment import Data, DigitsSource
from components.core.records import Records
from components.core.storage import Upload, join, upload
from components.prepare.prepare import prepare_records
from tests.servers.places import Place, PlaceOf


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, place_of: PlaceOf) -> Place:
    return place_of(request.param)


@pytest.fixture(autouse=True)
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies go."""
    monkeypatch.setenv("OPTDUEL_STAGING", str(tmp_path / "staging"))
    return tmp_path / "staging"


@pytest.fixture(scope="session")
def local_records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """1,797 digits in 3 x 4 shards on this machine."""
    data = Data(source=DigitsSource(), image_size=(8, 8), channels=1, shards=4)
    return prepare_records(data, str(tmp_path_factory.mktemp("digits")))


@pytest.fixture
def stored(local_records: Records) -> Callable[[str], Records]:
    """Puts the same data set below a root."""

    def store(root: str) -> Records:
        records = Records(location=join(root, "digits"), manifest=local_records.manifest)
        splits = local_records.manifest.splits.values()
        shards = [shard for split in splits for shard in split.shards]
        upload([Upload(local_records.path(shard), records.place(shard)) for shard in shards])
        return records

    return store

"""Data sets in stores."""

from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records
from optduel.components.settings import Data, DigitsSource
from optduel.components.storage import Upload, join, upload


@pytest.fixture(autouse=True)
def copies_of_its_own(staging: Path) -> None:
    """No test finds what another has staged."""


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

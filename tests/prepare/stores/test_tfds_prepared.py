"""Data that TensorFlow Datasets prepared elsewhere, on this machine and in stores."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optduel.components.core import DataError, ExperimentError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.prepare.sources import Tfds
from optduel.components.records import Records
from optduel.components.settings import Data, Split, TfdsSource, decode
from optduel.components.storage import Upload, delete, list_entries, read, upload
from tests.servers.places import Place

# TensorFlow Datasets and what it imports warn of their own business.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def data_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 0 to 39 in three files for training, 40 to 45 for tests; label 1 for odd ones."""
    import tensorflow_datasets as tfds

    class TinyPrepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.2.0")

        def _info(self) -> Any:
            label = tfds.features.ClassLabel(names=["disc", "square"])
            features = {"image": tfds.features.Image(shape=(6, 6, 1)), "label": label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._examples(0, 40), "test": self._examples(40, 46)}

        def _examples(self, start: int, stop: int) -> Any:
            for number in range(start, stop):
                pixels = np.full((6, 6, 1), number, np.uint8)
                yield number, {"image": pixels, "label": number % 2}

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    folder = tmp_path_factory.mktemp(request.param)
    config = tfds.download.DownloadConfig(num_shards=3, compute_stats=tfds.download.ComputeStatsMode.SKIP)
    builder = TinyPrepared(data_dir=folder, file_format=request.param)
    builder.download_and_prepare(download_config=config)
    return folder


def source(data_dir: object, **fields: Any) -> TfdsSource:
    return TfdsSource(name="tiny_prepared", data_dir=str(data_dir), **fields)


def put(folder: Path, root: str) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    upload([Upload(path, f"{root}/tfds/{path.relative_to(folder)}") for path in files])
    return f"{root}/tfds"


def prepared(source: TfdsSource, root: str) -> Records:
    split = Split(train=0.75, validation=0.25, test=0)
    return prepare_records(Data(source=source, image_size=(6, 6), channels=1, split=split, shards=2), root)


def test_a_data_dir_is_read_where_it_is(data_dir: Path, place: Place, tmp_path: Path) -> None:
    local = prepared(source(data_dir, test_split="test"), str(tmp_path / "root"))
    counts = {name: split.class_counts for name, split in local.manifest.splits.items()}
    assert counts == {"train": (15, 15), "validation": (5, 5), "test": (3, 3)}
    stored = prepared(source(put(data_dir, place.root), test_split="test"), place.root)
    assert stored.manifest == local.manifest
    for entry in list_entries(stored.location):
        assert read(entry.uri) == (local.folder / entry.uri.rpartition("/")[2]).read_bytes()


def test_parts_of_splits_and_versions_can_be_named(data_dir: Path, tmp_path: Path) -> None:
    found = Tfds(source(data_dir, split="train[10:25]", version="1.2.0"), tmp_path)
    assert len(found.examples) == 15
    assert len({found.read(position) for position in range(15)}) == 15


def test_only_the_files_of_the_splits_are_fetched(data_dir: Path, place: Place, staging: Path) -> None:
    stored = put(data_dir, place.root)
    Tfds(source(stored, split="test"), staging)
    names = [path.name for path in staging.rglob("*") if path.is_file()]
    assert any("-test." in name for name in names)
    assert not any("-train." in name for name in names)
    place.proxy.requests.clear()
    Tfds(source(stored, split="test"), staging)
    assert not [request for request in place.proxy.requests if "-of-" in request.path.partition("?")[0]]


def test_what_is_not_there_is_named(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no tiny_prepared version 2\.0\.0; there are 1\.2\.0"):
        Tfds(source(data_dir, version="2.0.0"), tmp_path)
    with pytest.raises(DataError, match="holds no tiny_prepared; it has no prepared data of that name"):
        Tfds(source(tmp_path), tmp_path)
    with pytest.raises(ExperimentError, match=r"split = all_of_it: .* no such split; it has .*train"):
        Tfds(source(data_dir, split="all_of_it"), tmp_path)


def test_a_missing_and_a_damaged_file_are_named(data_dir: Path, place: Place, tmp_path: Path) -> None:
    if not list(data_dir.rglob("*.tfrecord-*")):
        pytest.skip("ArrayRecord's own reader checks its files")
    stored = put(data_dir, place.root)
    entry = next(entry for entry in list_entries(stored) if "train.tfrecord-00001" in entry.uri)
    content = bytearray(read(entry.uri))
    content[100] ^= 1
    (tmp_path / "x").write_bytes(content)
    upload([Upload(tmp_path / "x", entry.uri)])
    with pytest.raises(DataError, match=r"train.tfrecord-00001-of-00003: is damaged after 0 of 1\d examples"):
        Tfds(source(stored), tmp_path)
    delete(entry.uri)
    with pytest.raises(DataError, match="train.tfrecord-00001-of-00003 is missing; prepare"):
        Tfds(source(stored), tmp_path)


@pytest.mark.parametrize("form", ["present", "older", "as text"])
def test_a_description_of_features_imports_no_module_of_others(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'was-here')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    (path,) = copy.rglob("features.json")
    planted = {
        "present": {"pythonClassName": "planted.Image", "image": {}},
        "older": {"type": "planted.Image", "content": {}},
        "as text": {"pythonClassName": "x", "jsonFeature": {"json": json.dumps({"type": "planted.Image"})}},
    }
    document = json.loads(path.read_text())
    document["featuresDict"]["features"]["image"] = planted[form]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="names the class 'planted.Image', whose module would be imported"):
        Tfds(source(copy), tmp_path / "root")
    assert not (tmp_path / "was-here").exists()


def test_an_archive_and_a_data_dir_exclude_one_another() -> None:
    text = '{"source":{"kind":"tfds","name":"x","archive":"a","data_dir":"b"},"image_size":[8,8]}'
    with pytest.raises(ExperimentError, match="archive and data_dir are set"):
        decode(Data, text, "data")

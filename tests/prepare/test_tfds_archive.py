import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.core import DataError, StorageError
from optduel.components.prepare.prepare import prepare_records
from optduel.components.prepare.sources import Tfds
from optduel.components.settings import Data, Split, TfdsSource

FLOWERS_ARCHIVE = os.environ.get("OPTDUEL_FLOWERS_ARCHIVE")  # before the environment is cleaned

Encode = Callable[..., bytes]
Picture = Callable[..., Image.Image]

FLOWERS = ("dandelion", "daisy", "tulips", "sunflowers", "roses")
NO_TEST = Split(train=0.75, validation=0.25, test=0)

# TensorFlow Datasets and what it imports warn of their own business.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def flower_files(picture: Picture, encode: Encode) -> dict[str, bytes]:
    """JPEG files in the layout of the archive of tf_flowers, four of each class."""
    return {
        f"flower_photos/{name}/{index}.jpg": encode(picture(100 * label + index), "JPEG")
        for label, name in enumerate(FLOWERS)
        for index in range(4)
    }


@pytest.fixture
def make_archive(tmp_path: Path) -> Callable[..., Path]:
    def make(files: dict[str, bytes], name: str = "flower_photos.tgz") -> Path:
        path = tmp_path / "handed over" / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            for file, content in {"flower_photos/LICENSE.txt": b"CC BY 2.0", **files}.items():
                member = tarfile.TarInfo(file)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return make


def flowers(archive: Path | None, **fields: Any) -> TfdsSource:
    return TfdsSource(name="tf_flowers", archive=str(archive) if archive else None, **fields)


def stored(source: Tfds) -> dict[bytes, str]:
    """The class of every image."""
    return {
        source.read(position): source.classes[example.label]
        for position, example in enumerate(source.examples)
    }


def test_the_builder_of_tf_flowers_runs_on_an_archive_without_network(
    flower_files: dict[str, bytes],
    make_archive: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Tfds(flowers(make_archive(flower_files)), tmp_path / "root")
    assert source.name == "tf_flowers"
    assert source.classes == FLOWERS
    assert source.description.startswith(
        "TensorFlow Datasets tf_flowers/3.0.1, split train, from flower_photos.tgz (SHA-256 "
    )
    # The images are the files of the archive, still encoded.
    assert stored(source) == {content: name.split("/")[1] for name, content in flower_files.items()}
    assert capsys.readouterr().out == ""


def test_records_of_tf_flowers_from_an_archive(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    data = Data(source=flowers(make_archive(flower_files)), image_size=(18, 20), split=NO_TEST, shards=2)
    records = prepare_records(data, str(tmp_path / "root"))
    assert records.manifest.classes == FLOWERS
    assert records.manifest.splits["train"].class_counts == (3, 3, 3, 3, 3)
    assert records.manifest.splits["validation"].class_counts == (1, 1, 1, 1, 1)
    assert records.folder.parent == tmp_path / "root" / "datasets" / "tf_flowers"
    again = prepare_records(data, str(tmp_path / "root"))
    assert again == records


def test_a_version_that_exists_is_accepted_again(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = make_archive(flower_files)
    first = Tfds(flowers(archive, version="3.0.1"), tmp_path / "root")
    second = Tfds(flowers(archive, version="3.0.1"), tmp_path / "root")
    assert stored(first) == stored(second)


def test_another_archive_of_the_same_name_gives_its_own_images(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    first = stored(Tfds(flowers(make_archive(flower_files)), tmp_path / "root"))
    fewer = dict(list(flower_files.items())[:-1])
    second = stored(Tfds(flowers(make_archive(fewer)), tmp_path / "root"))
    assert len(first) == len(flower_files)
    assert len(second) == len(flower_files) - 1


def test_the_archive_may_lie_in_a_folder_of_downloads(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = make_archive(flower_files)
    (archive.parent / "other.zip").write_bytes(b"x")
    assert len(Tfds(flowers(archive.parent), tmp_path / "root").examples) == len(flower_files)


def test_an_archive_that_the_builder_does_not_ask_for_is_refused(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = make_archive(flower_files, name="flowers.tgz")
    with pytest.raises(DataError, match=r"holds flowers\.tgz, but tf_flowers asks for flower_photos\.tgz"):
        Tfds(flowers(archive), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source\.archive = .*nowhere\.tgz: no such file or folder"):
        Tfds(flowers(tmp_path / "nowhere.tgz"), tmp_path / "root")


def test_an_archive_that_climbs_out_never_reaches_the_builder(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = make_archive({**flower_files, "flower_photos/../../../escaped.jpg": b"x"})
    with pytest.raises(DataError, match=r"escaped\.jpg' leads out of the archive"):
        Tfds(flowers(archive), tmp_path / "root")
    assert not list(tmp_path.rglob("escaped.jpg"))
    assert not list(tmp_path.rglob("*.array_record*"))


@pytest.mark.parametrize("content", ["another class", "nothing"])
def test_an_archive_with_other_content_gets_one_message(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path, content: str
) -> None:
    files = {"flower_photos/lilies/1.jpg": b"x"} if content == "another class" else {}
    with pytest.raises(
        DataError, match="data.source.name = tf_flowers: its builder cannot use the files: "
    ) as caught:
        Tfds(flowers(make_archive(files)), tmp_path / "root")
    assert len(str(caught.value)) < 700


def test_a_damaged_image_in_an_archive_is_named(
    flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    flower_files["flower_photos/daisy/0.jpg"] = flower_files["flower_photos/daisy/0.jpg"][:500]
    data = Data(source=flowers(make_archive(flower_files)), image_size=(18, 20), split=NO_TEST)
    with pytest.raises(DataError, match=r"1 problem.*\ntrain/\d+: is damaged or cut off"):
        prepare_records(data, str(tmp_path / "root"))


def test_a_disk_that_the_builder_fills_is_one_storage_error(
    encode: Encode, make_archive: Callable[..., Path], small_disk: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 300, 300, 3), dtype=np.uint8)
    files = {
        f"flower_photos/daisy/{index}.jpg": encode(Image.fromarray(pixels), "JPEG", quality=95)
        for index, pixels in enumerate(noise)
    }
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        Tfds(flowers(make_archive(files)), small_disk)


@pytest.mark.skipif(FLOWERS_ARCHIVE is None, reason="OPTDUEL_FLOWERS_ARCHIVE does not name the real archive")
def test_the_real_archive_has_all_photos(tmp_path: Path) -> None:
    data = Data(source=flowers(Path(str(FLOWERS_ARCHIVE))), image_size=(32, 32), split=NO_TEST)
    records = prepare_records(data, str(tmp_path))
    counts = [records.manifest.splits[split].class_counts for split in ("train", "validation")]
    assert np.sum(counts, axis=0).tolist() == [898, 633, 799, 699, 641]


@pytest.fixture(scope="module")
def manual() -> str:
    """A builder that wants a file fetched by hand."""
    import tensorflow_datasets as tfds

    class ByHand(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.0.0")
        MANUAL_DOWNLOAD_INSTRUCTIONS = "Sign the form and put pictures.tgz\ninto the folder."

        def _info(self) -> Any:
            label = tfds.features.ClassLabel(names=["a", "b"])
            features = {"image": tfds.features.Image(), "label": label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples(dl_manager, dl_manager.manual_dir / "pictures.tgz")}

        def _generate_examples(self, dl_manager: Any, archive: Any) -> Iterator[tuple[str, Any]]:
            for name, file in dl_manager.iter_archive(archive):
                yield name, {"image": file, "label": len(name) % 2}

    return str(ByHand.name)


def test_a_builder_that_wants_files_fetched_by_hand_says_so(manual: str, tmp_path: Path) -> None:
    message = r"data\.source\.archive: by_hand needs files fetched by hand: Sign the form and put"
    with pytest.raises(DataError, match=message):
        Tfds(TfdsSource(name=manual), tmp_path)


def test_a_builder_that_wants_files_fetched_by_hand_gets_them(
    manual: str, flower_files: dict[str, bytes], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    archive = make_archive(flower_files, name="pictures.tgz")
    source = Tfds(TfdsSource(name=manual, archive=str(archive)), tmp_path / "root")
    assert set(flower_files.values()) < set(stored(source))

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.core import DataError
from optduel.components.prepare.prepare import prepare_source
from optduel.components.records import Records, encode_manifest, load_manifest
from optduel.components.settings import Data, Split, canonical_json

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]
Contents = Callable[[Records], dict[str, bytes]]


def test_what_is_there_already_is_not_written_again(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times
    assert "are there already" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "shortened", "removed"])
def test_only_damaged_shards_are_written_again(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    whole = contents_of(first)
    times = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    shard = first.folder / first.manifest.splits["train"].shards[2].file
    content = bytearray(shard.read_bytes())
    match damage:
        case "flipped":
            content[len(content) // 2] ^= 1
            shard.write_bytes(content)
        case "shortened":
            shard.write_bytes(content[:-1])
        case "removed":
            shard.unlink()
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert contents_of(first) == whole
    written = {path.name for path in first.folder.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert written == {shard.name, "manifest.json"}
    assert shard.name in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 99}', b'{"schema_version": 1}'])
def test_a_damaged_manifest_is_written_again(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    (first.folder / "manifest.json").write_bytes(content)
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert load_manifest(first.folder / "manifest.json") == first.manifest


def change(document: dict[str, Any], key: str) -> None:
    match key:
        case "classes":
            document["classes"][0] = "lily"
        case "image_shape":
            document["image_shape"][0] += 1
        case "label_offset":
            document["label_offset"] = -5
        case "splits":
            del document["splits"]["test"]
        case "checksum":
            del document["checksum"]


KEYS = ["classes", "image_shape", "label_offset", "splits", "checksum"]


@pytest.mark.parametrize("key", KEYS)
def test_a_changed_manifest_is_written_anew_and_that_is_said(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    whole = contents_of(first)
    document = json.loads(whole["manifest.json"])
    change(document, key)
    (first.folder / "manifest.json").write_text(canonical_json(document))
    with pytest.raises(DataError, match="manifest.json: was changed or damaged, its checksum is another"):
        load_manifest(first.folder / "manifest.json")
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert contents_of(first) == whole
    assert "writing the data set again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"split": Split(seed=1)}, {"image_size": (16, 12)}, {"channels": 1}], ids=str
)
def test_a_folder_of_another_data_set_is_not_taken_for_this_one(
    images: Images,
    memory_source: Any,
    settings: Settings,
    contents_of: Contents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
) -> None:
    """Copied into place whole, so that every checksum is right."""
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    whole = contents_of(first)
    other = prepare_source(source, settings(**change), tmp_path, threads=2)
    shutil.rmtree(first.folder)
    shutil.copytree(other.folder, first.folder)
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert contents_of(first) == whole
    assert "has another fingerprint" in capsys.readouterr().err


def test_a_sound_manifest_of_another_writer_is_compared_with_the_source(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = memory_source(images)
    first = prepare_source(source, settings(), tmp_path, threads=2)
    other = first.manifest.model_copy(update={"classes": ("daisy", "roses", "violets")})
    (first.folder / "manifest.json").write_bytes(encode_manifest(other))
    assert prepare_source(source, settings(), tmp_path, threads=2) == first
    assert "has another classes than the source" in capsys.readouterr().err


def test_renamed_images_and_another_description_are_no_difference(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = [*images, ("copy", 0, images[0][2], False), ("conflict", 1, images[0][2], False)]
    tests = [(f"test-{label}", label, images[10 * label][2], True) for label in range(3)]
    data = settings(split=Split(train=0.8, validation=0.2, test=0))
    first = prepare_source(memory_source([*copies, *tests]), data, tmp_path, threads=2)
    assert first.manifest.skipped
    renamed = [(f"renamed-{name}", *rest) for name, *rest in [*copies, *tests]]
    assert prepare_source(memory_source(renamed), data, tmp_path, threads=2) == first
    assert "are there already" in capsys.readouterr().err

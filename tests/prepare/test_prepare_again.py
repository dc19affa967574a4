from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.prepare.prepare import prepare_source
from optduel.components.records import Records, load_manifest
from optduel.components.settings import Data

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

"""Places that cannot be looked at, and documents that are none: one message that names what is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.components.core import ExperimentError, StorageError
from optduel.components.storage import kind_of, list_entries, local_path, publish, read, resolved, stat
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_experiment

LONG = "x" * 300


def looped(folder: Path) -> str:
    (folder / "loop").symlink_to(folder / "loop")
    return str(folder / "loop")


def below_a_file(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file" / "inner")


def long(folder: Path) -> str:
    return str(folder / LONG)


def not_text(folder: Path) -> str:
    return f"{folder}/M\udcfcller"


PLACES = [looped, below_a_file, long, not_text]

COMMANDS = {
    "run": lambda place: ["run", "digits", "--root", place],
    "report": lambda place: ["report", place],
    "compile": lambda place: ["compile", "digits", "--image", "i:1", "--output", f"{place}/x.yaml"],
    "check": lambda place: ["check", f"{place}/mine.yaml"],
}


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_looked_at_is_one_message(
    command: str, make: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make(tmp_path)
    assert main(COMMANDS[command](place)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("optduel: error: ")
    assert captured.err.count("\n") == 1
    assert captured.err[:-1].isprintable()
    assert str(tmp_path) in captured.err


@pytest.mark.parametrize("make", [looped, long])
def test_history_of_a_place_that_cannot_be_looked_at(
    make: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make(tmp_path)
    for arguments in (["history", "--root", place], ["history", place]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"optduel: error: {place}")


@pytest.mark.parametrize("make", [looped, long])
def test_check_tells_of_images_that_cannot_be_looked_at(
    make: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make(tmp_path)
    source = f"data.source={{kind: folder, path: '{place}'}}"
    assert main(["check", "digits", "--set", source]) == 0
    assert f"caution: data.source.path = {place}: {place}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("file:///a%00b", r"holds a NUL character"),
        ("a\0b", r"a\\u0000b: holds a NUL character"),
        ("file://[host/a", "names another host"),
        ("file://host/a", "names another host"),
        ("M\udcfcller", "is no name in UTF-8"),
        ("file:///M%FCller", "is no name in UTF-8"),
        ("gs://bucket/M\udcfcller", "is no name in UTF-8"),
    ],
)
def test_a_name_that_is_none(place: str, told: str) -> None:
    for operation in (read, stat, list_entries, lambda place: publish(place, b"")):
        with pytest.raises(StorageError, match=told):
            operation(place)


def test_what_stands_at_a_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    kinds = {
        name: kind_of(tmp_path / name) for name in ("file", "pipe", "link", "broken", "absent", "file/x")
    }
    assert kinds == dict(zip(kinds, ["file", "other", "file", None, None, None], strict=True))
    assert kind_of(tmp_path) == "folder"
    with pytest.raises(StorageError, match="its links lead back to themselves: remove one"):
        kind_of(looped(tmp_path))
    with pytest.raises(StorageError, match="choose a shorter one"):
        kind_of(long(tmp_path))
    assert resolved(str(tmp_path / "link")) == tmp_path / "file"
    assert local_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"


@pytest.fixture
def vanished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("vanished")
def test_a_current_folder_that_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run", "digits"], ["report", "x"]):
        assert main(arguments) == 2
        assert "the current folder is gone; change to another one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"title: M\xfcller", "not UTF-8 text"),
        (b"[" * 50_000, "nested too deeply"),
        (b"x" * 70_000, "the limit is 65,536"),
        (b"title: \x00", "not YAML"),
        (b'title: "\\ud800"', "is half a character"),
        (b"? {a: 1}\n: 1", "not YAML"),
        (b"1: 2", "1"),
    ],
)
def test_an_experiment_file_that_is_none(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ExperimentError) as raised:
        load_experiment(str(path))
    assert told in str(raised.value)


def test_an_experiment_file_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe.yaml", "folder.yaml"):
        with pytest.raises(ExperimentError, match=f"{name}: is no file; check the path"):
            load_experiment(str(tmp_path / name))


def optduel(*arguments: str, prefix: str = "", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = Path(sys.executable).with_name("optduel")
    line = f'exec "$0" "$@" {prefix}'
    return subprocess.run(
        ["sh", "-c", line, str(command), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_streams_that_are_closed_or_speak_another_encoding(tmp_path: Path) -> None:
    closed = optduel("list", prefix=">&- <&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, b"", b"")
    path = tmp_path / "mine.yaml"
    shipped = Path(__file__).parents[2] / "pipeline" / "experiments" / "digits.yaml"
    path.write_text(shipped.read_text().replace("title: ", "title: \N{CYRILLIC CAPITAL LETTER ZHE} "))
    told = optduel("show", str(path), PYTHONIOENCODING="latin-1")
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"\\u0416" in told.stdout


@pytest.mark.parametrize("module", ["optduel.pipeline.cli", "pipeline.cli"])
def test_the_package_is_the_command_too(module: str) -> None:
    """Also by its place in a checkout, where it once did nothing and told of success."""
    command = [sys.executable, "-m", module, "list"]
    repository = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=True)
    assert "digits" in done.stdout

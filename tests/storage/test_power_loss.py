"""What a power failure leaves: a model of the disk below the file layer, where only what was synced stays."""

import os
import stat as kinds
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.storage import Upload, publish, publishing, stat, upload

OLD, SOURCE = b"old" * 100_000, Path(__file__)
NEW = SOURCE.read_bytes()
"""Whatever is written, it is this file, so that it can be copied too."""


class Disk:
    """Follows one folder.

    Content is on the disk from the moment its file was synced, a name from the moment its folder was. A name
    may get there earlier, whenever the system likes.

    Attributes:
        torn: names that a power failure would at some moment have left with half of their content.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.torn: list[str] = []
        self._root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        for folder, _, files in os.walk(root):
            self._keep_names(folder)
            for name in files:
                self._contents[os.stat(Path(folder, name)).st_ino] = Path(folder, name).read_bytes()
        for name in ("fsync", "replace", "link"):
            monkeypatch.setattr(os, name, self._followed(getattr(os, name)))

    def after_power_failure(self) -> dict[str, bytes]:
        """The files below the folder that are there again, hidden ones aside."""
        return self._below(self._root, self._names)

    def _followed(self, call: Callable[..., None]) -> Callable[..., None]:
        def follow(*arguments: object, **options: object) -> None:
            call(*arguments, **options)
            if call.__name__ == "fsync":
                self._sync(int(str(arguments[0])))
            names = {os.stat(folder).st_ino: _names(folder) for folder, _, _ in os.walk(self._root)}
            left = self._below(self._root, names)
            self.torn += [name for name, content in left.items() if content not in (OLD, NEW)]

        return follow

    def _sync(self, descriptor: int) -> None:
        place = f"/proc/self/fd/{descriptor}"
        if kinds.S_ISDIR(os.fstat(descriptor).st_mode):
            self._keep_names(place)
        else:
            self._contents[os.fstat(descriptor).st_ino] = Path(place).read_bytes()

    def _keep_names(self, folder: str) -> None:
        self._names[os.stat(folder).st_ino] = _names(folder)

    def _below(
        self, folder: Path, names: dict[int, dict[str, int]], inode: int | None = None
    ) -> dict[str, bytes]:
        inode = os.stat(folder).st_ino if inode is None else inode
        found = {}
        for name, below in names.get(inode, {}).items():
            if below in names:
                found |= self._below(folder / name, names, below)
            elif not name.startswith(".") and not (folder / name).is_dir():
                found[str((folder / name).relative_to(self._root))] = self._contents.get(below, b"")
        return found


def _names(folder: str | Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


def write_in_parts(place: Path) -> None:
    with publishing(place) as file:
        for start in range(0, len(NEW), 100):
            file.write(NEW[start : start + 100])


def write_if_unchanged(place: Path) -> None:
    found = stat(place)
    assert found
    publish(place, NEW, if_version=found.version)


def copy_there(place: Path) -> None:
    upload([Upload(SOURCE, place)])


ANYWHERE = {"at-once": lambda place: publish(place, NEW), "in-parts": write_in_parts, "copy": copy_there}
NEWLY = ANYWHERE | {"if-absent": lambda place: publish(place, NEW, if_absent=True)}
AGAIN = ANYWHERE | {"if-unchanged": write_if_unchanged}


@pytest.mark.parametrize("name", ["a.bin", "trial/checkpoints/a.bin"], ids=["beside", "in-new-folders"])
@pytest.mark.parametrize("write", NEWLY.values(), ids=NEWLY)
def test_what_was_published_survives_a_power_failure(
    write: Callable[[Path], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch)
    write(tmp_path / name)
    assert disk.after_power_failure() == {name: NEW}
    assert disk.torn == []


@pytest.mark.parametrize("write", AGAIN.values(), ids=AGAIN)
def test_what_was_replaced_is_one_whole_version_after_a_power_failure(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.bin").write_bytes(OLD)
    disk = Disk(tmp_path, monkeypatch)
    write(tmp_path / "a.bin")
    assert disk.after_power_failure() == {"a.bin": NEW}
    assert disk.torn == []

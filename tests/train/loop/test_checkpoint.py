"""Checkpoints appear whole, are verified when read, and belong to one trial."""

import errno
import os
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.core import DamagedError, StorageError, TrainingError
from optduel.components.train.loop import checkpoint
from optduel.components.train.loop.checkpoint import Checkpoint, discard, latest, save
from optduel.components.train.loop.recorder import Background
from tests.train.checkpoints import step_file


def a_checkpoint(step: int, identity: str = "trial") -> Checkpoint:
    generator = np.random.default_rng(step)
    arrays = {
        "model/000/kernel": generator.normal(size=(30, 4)),
        "slot/000/0": np.float32(generator.normal(size=5)),
    }
    return Checkpoint(step, identity, arrays, {"seconds": 1.5})


def a_small_checkpoint(step: int) -> Checkpoint:
    arrays = {"model/000/kernel": np.float32([[step, 2], [3, 4]]), "slot/000/0": np.float32([step])}
    return Checkpoint(step, "trial", arrays, {"seconds": step})


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved = a_checkpoint(7)
    save(str(tmp_path), saved, kept=1)
    found = latest(str(tmp_path), "trial")
    assert found is not None
    assert (found.step, found.state) == (7, {"seconds": 1.5})
    assert {name: array.tobytes() for name, array in found.arrays.items()} == {
        name: array.tobytes() for name, array in saved.arrays.items()
    }


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        save(str(tmp_path), a_checkpoint(step), kept=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000010.npz", "step-0000000011.npz"]


def test_absent_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    assert latest(str(tmp_path / "none"), "trial") is None


def test_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    save(str(tmp_path), a_checkpoint(1, "one"), kept=1)
    with pytest.raises(TrainingError, match="another trial; delete the folder"):
        latest(str(tmp_path), "other")


@settings(max_examples=150)
@given(st.data())
def test_damage_anywhere_is_noticed_and_the_one_before_is_taken(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    save(str(folder), a_checkpoint(1), kept=2)
    save(str(folder), a_checkpoint(2), kept=2)
    path = folder / "step-0000000002.npz"
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = latest(str(folder), "trial")
    assert found is not None
    expected = a_checkpoint(found.step).arrays
    assert {name: array.tobytes() for name, array in found.arrays.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    save(str(tmp_path), a_small_checkpoint(1), kept=2)
    save(str(tmp_path), a_small_checkpoint(2), kept=2)
    path = tmp_path / step_file(2)
    content = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for bit in range(0, 8 * len(content), 3):
            place, mask = bit // 8, 1 << bit % 8
            os.pwrite(file.fileno(), bytes([content[place] ^ mask]), place)
            found = latest(str(tmp_path), "trial")
            os.pwrite(file.fileno(), content[place : place + 1], place)
            assert found is not None
            expected = a_small_checkpoint(found.step)
            assert found.state == expected.state
            assert found.arrays.keys() == expected.arrays.keys(), f"bit {bit}"
            for name, array in expected.arrays.items():
                np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def test_an_array_that_the_archive_calls_empty_is_noticed(tmp_path: Path) -> None:
    save(str(tmp_path), a_small_checkpoint(1), kept=1)
    path = tmp_path / step_file(1)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 16 : entry + 28] = bytes(12)  # checksum and sizes, which agree
    path.write_bytes(content)
    assert latest(str(tmp_path), "trial") is None


class Hostile:
    """What a pickle can do: it makes a folder when it is read."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._canary),)


def test_a_checkpoint_that_would_run_code_is_damaged_and_runs_none(tmp_path: Path) -> None:
    save(str(tmp_path), a_small_checkpoint(1), kept=2)
    with np.load(tmp_path / step_file(1), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    hostile = np.array([Hostile(tmp_path / "canary")], dtype=object)
    np.savez(tmp_path / step_file(2), allow_pickle=True, **arrays | {"slot/000/0": hostile})
    found = latest(str(tmp_path), "trial")
    assert found is not None
    assert found.step == 1
    assert not (tmp_path / "canary").exists()


def test_what_only_a_pickle_could_hold_is_not_saved(tmp_path: Path) -> None:
    odd = Checkpoint(1, "trial", {"slot/000/0": np.array([None], dtype=object)}, {})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        save(str(tmp_path), odd, kept=1)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told_in_few_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some errors show all that was read."""
    save(str(tmp_path), a_checkpoint(1), kept=1)
    path = tmp_path / step_file(1)
    content = bytearray(path.read_bytes())
    content[27] = 255  # most of the first name's length
    path.write_bytes(content)
    assert latest(str(tmp_path), "trial") is None
    assert len(capsys.readouterr().err) < 500


def test_damaged_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(str(tmp_path), a_checkpoint(3), kept=1)
    path = tmp_path / "step-0000000003.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert latest(str(tmp_path), "trial") is None
    assert f"{path}: damaged checkpoint skipped" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [1, 2])
def test_progress_is_kept_where_newer_ones_are_damaged(tmp_path: Path, kept: int) -> None:
    for step in (150, 200):
        save(str(tmp_path), a_checkpoint(step), kept=2)
        path = tmp_path / step_file(step)
        path.write_bytes(path.read_bytes()[:-40])
    for step in (40, 50, 60):
        save(str(tmp_path), a_checkpoint(step), kept)
        found = latest(str(tmp_path), "trial")
        assert found is not None
        assert found.step == step
    assert sorted(path.name for path in tmp_path.iterdir()) == [step_file(50), step_file(60)][-kept:]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_one_that_cannot_be_read_now_is_no_reason_to_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    save(str(tmp_path), a_checkpoint(1), kept=1)

    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=f"{step_file(1)}: {os.strerror(number)}; ") as raised:
        latest(str(tmp_path), "trial")
    assert not isinstance(raised.value, DamagedError)


def test_one_that_is_deleted_meanwhile_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save(str(tmp_path), a_checkpoint(step), kept=2)
    listed = checkpoint._saved(str(tmp_path))
    (tmp_path / step_file(2)).unlink()
    monkeypatch.setattr(checkpoint, "_saved", lambda _: listed)
    found = latest(str(tmp_path), "trial")
    assert found is not None
    assert found.step == 1


def test_checkpoints_in_the_background_are_the_same(tmp_path: Path) -> None:
    saving = Background("checkpoint")
    for step in (1, 2, 3):
        saving.begin(partial(save, str(tmp_path), a_checkpoint(step), kept=2))
    saving.wait()
    assert not saving.is_busy
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-0000000002.npz",
        "step-0000000003.npz",
    ]
    found = latest(str(tmp_path), "trial")
    assert found is not None
    np.testing.assert_array_equal(
        found.arrays["model/000/kernel"], a_checkpoint(3).arrays["model/000/kernel"]
    )


def test_a_failure_in_the_background_comes_to_light(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    saving = Background("checkpoint")
    saving.begin(partial(save, str(tmp_path / "file"), a_checkpoint(1), kept=1))
    with pytest.raises(StorageError, match="File exists"):
        saving.wait()
    with pytest.raises(StorageError, match="File exists"):
        saving.begin(partial(save, str(tmp_path), a_checkpoint(2), kept=1))


def test_a_finished_trial_keeps_none(tmp_path: Path) -> None:
    for step in (1, 2):
        save(str(tmp_path), a_checkpoint(step), kept=2)
    (tmp_path / f".{step_file(3)}.abcd1234.part").write_bytes(b"of a writer that was killed")
    discard(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    discard(str(tmp_path))

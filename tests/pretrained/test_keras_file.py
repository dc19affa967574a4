"""What a file to start from must be: each fault is one message that names file or field."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from optduel.components.core import ExperimentError
from optduel.components.pretrained import check_start, keras_file, verified_copy
from optduel.components.settings import LinearModel, PretrainedModel

SHAPE = (16, 16, 3)
Damage = Callable[[Path], None]


def settings_of(path: Path, **fields: Any) -> PretrainedModel:
    return PretrainedModel.model_validate(
        {"start": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | fields
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    pixels = keras.Input(SHAPE)
    features = keras.layers.Conv2D(4, 3, name="first")(pixels)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(name="second")(features))
    path = tmp_path_factory.mktemp("start") / "sound.keras"
    keras.Model(pixels, keras.layers.Dense(5, name="top")(features)).save(path)
    return path


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "start.keras"))


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Changes members of the archive, or leaves them out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if (changed := change(name, content)) is not None:
                archive.writestr(name, changed)


def change_config(edit: Callable[[Any], None]) -> Damage:
    def change(name: str, content: bytes) -> bytes:
        if name != "config.json":
            return content
        config = json.loads(content)
        edit(config)
        return json.dumps(config).encode()

    return lambda path: rewritten(path, change)


def conv_of(config: Any) -> Any:
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Conv2D")


def not_finite(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        weights = Path(archive.extract("model.weights.h5", path.parent))
    with h5py.File(weights, "r+") as file:
        found: list[Any] = []
        file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
        first = next(item for item in found if item.ndim == 4)
        first[0, 0, 0, 0] = np.nan
    rewritten(path, lambda name, content: weights.read_bytes() if name == weights.name else content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"no archive"), r"no model in Keras' format \(\.keras\)"),
        (
            lambda path: rewritten(path, lambda name, content: None if name == "config.json" else content),
            "lacks",
        ),
        (change_config(lambda config: conv_of(config).update(class_name="Lambda")), "first is a Lambda"),
        (change_config(lambda config: conv_of(config).update(class_name="Mystery")), "first is a Mystery"),
        (
            change_config(lambda config: conv_of(config).update(module="evil.layers")),
            "first is a Conv2D, of which",
        ),
        (
            change_config(lambda config: config.update(class_name="Subclassed")),
            "is a Subclassed; training can start",
        ),
        (
            change_config(
                lambda config: config["config"]["layers"][0]["config"].update(batch_shape=[None, 300])
            ),
            r"takes \[300\], where the records hold images of \[16, 16, 3\]",
        ),
        (change_config(lambda config: config.update(config=3)), "no model in Keras' format"),
        (not_finite, "holds numbers that are not finite"),
        (
            lambda path: rewritten(path, lambda name, content: b"junk" if name.endswith(".h5") else content),
            "its weights cannot be read",
        ),
    ],
)
def test_a_bad_file_is_one_message(damage: Damage, message: str, copy: Path) -> None:
    damage(copy)
    with pytest.raises(ExperimentError, match=message) as raised:
        check_start(settings_of(copy), SHAPE)
    assert str(raised.value).startswith(f"model.start = {copy}: ")
    assert "\n" not in str(raised.value)


def test_a_sound_file_passes(copy: Path) -> None:
    check_start(settings_of(copy), SHAPE)
    check_start(settings_of(copy, freeze="second"), (33, 20, 3))
    check_start(LinearModel(), SHAPE)


def test_another_file_is_refused(copy: Path) -> None:
    stated = settings_of(copy)
    copy.write_bytes(copy.read_bytes() + b"x")
    with pytest.raises(
        ExperimentError, match=rf"model.sha256 = {stated.sha256}: .* is it the file that you mean"
    ):
        check_start(stated, SHAPE)
    copy.unlink()
    with pytest.raises(ExperimentError, match="there is no such file"), verified_copy(stated):
        pass


def test_channels_sizes_and_layers_that_do_not_fit_are_named(copy: Path) -> None:
    with pytest.raises(ExperimentError, match=r"takes \[16, 16, 3\], where .* \[16, 16, 1\]"):
        check_start(settings_of(copy), (16, 16, 1))
    with pytest.raises(ExperimentError, match=r"model.freeze = third: is no layer of .* top"):
        check_start(settings_of(copy, freeze="third"), SHAPE)
    flat = change_config(lambda config: config["config"]["layers"][-1].update(class_name="Flatten"))
    flat(copy)
    with pytest.raises(ExperimentError, match="flattens images of 16 x 16 pixels, and fits no other size"):
        check_start(settings_of(copy), (20, 16, 3))


def test_size_is_bounded(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_file, "MOST_BYTES", copy.stat().st_size - 1)
    with pytest.raises(ExperimentError, match="are the most"):
        check_start(settings_of(copy), SHAPE)
    with zipfile.ZipFile(copy, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 20))
    monkeypatch.setattr(keras_file, "MOST_BYTES", copy.stat().st_size + 1)
    with pytest.raises(ExperimentError, match="unpacks to more than"):
        check_start(settings_of(copy), SHAPE)

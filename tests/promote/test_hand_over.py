"""The champion as others get it: a SavedModel that serves without our code."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from optduel.components.core import DataError
from optduel.components.promote.hand_over import hand_over
from tests.champions.conftest import candidate_of

SERVE = """
import json, sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = np.load(sys.argv[2])
answer = served(images=tf.constant(images))
assert not [name for name in sys.modules if name.startswith("optduel")]
print(json.dumps({
    "dtype": served.structured_input_signature[1]["images"].dtype.name,
    "probabilities": answer["probabilities"].numpy().tolist(),
    "classes": [[one.decode() for one in row] for row in answer["classes"].numpy()],
}))
"""


@pytest.mark.slow
def test_the_saved_model_takes_bytes_and_gives_probabilities_and_names(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(scaled)))
    path = tmp_path / "model.keras"
    model.save(path)
    candidate = candidate_of(str(tmp_path / "root"), "run", path.read_bytes())
    assert candidate.model_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "made").mkdir()
    hand_over(candidate, path, tmp_path / "made")
    images = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    finished = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            SERVE,
            str(tmp_path / "made" / "saved_model"),
            str(tmp_path / "images.npy"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout)
    assert answer["dtype"] == "uint8"
    assert answer["classes"] == [["rose", "tulip"]] * 3
    expected = keras.ops.softmax(model(images)).numpy()
    assert np.array(answer["probabilities"]) == pytest.approx(expected, rel=1e-5)


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"no model")
    candidate = candidate_of(str(tmp_path), "run", b"no model")
    with pytest.raises(DataError, match="cannot be loaded in safe mode"):
        hand_over(candidate, tmp_path / "model.keras", tmp_path)

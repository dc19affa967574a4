"""Records of TensorFlow Datasets do not depend on the home and the environment that TensorFlow finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def made_with(root: Path, environment: dict[str, str]) -> dict[str, bytes]:
    """The files of the records, by name, that a process with this environment makes."""
    code = f"from tests.prepare.tfds_records import make; make({str(root)!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stderr.decode()
    return {path.name: path.read_bytes() for path in (root / "datasets").rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_hostile_home_and_environment_change_no_byte(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    keras = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, "backend": "torch"}
    (home / ".keras" / "keras.json").write_text(json.dumps(keras))
    (home / ".config").mkdir()
    elsewhere = tmp_path / "elsewhere"
    hostile = {
        "HOME": str(home),
        "KERAS_BACKEND": "jax",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "7",
        "TFDS_DATA_DIR": str(elsewhere),
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
        "TZ": "Asia/Kathmandu",
        "XDG_CONFIG_HOME": str(home / ".config"),
    }
    plain = made_with(tmp_path / "plain", {})
    assert len(plain) == 5  # two shards of each of two splits, and the manifest
    assert made_with(tmp_path / "hostile", hostile) == plain
    assert not elsewhere.exists()

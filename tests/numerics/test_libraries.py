"""What can change numbers does not reach a process that computes."""

import subprocess
import sys

import pytest

from optduel.components.numerics import library_environment, taken_out

HOSTILE = {
    "KERAS_BACKEND": "torch",
    "KERAS_HOME": "/nonexistent/keras",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMP_NUM_THREADS": "3",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "OPENBLAS_NUM_THREADS": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
}
HARMLESS = {
    "CUDA_VISIBLE_DEVICES": "1",
    "LD_LIBRARY_PATH": "/usr/local/cuda",
    "NCCL_SOCKET_IFNAME": "eth0",
    "TF_CLI_CONFIG_FILE": "/srv/me/.terraformrc",
    "TF_CONFIG": "{}",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_GPU_ALLOCATOR": "cuda_malloc_async",
    "https_proxy": "http://proxy:3128",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_can_change_numbers_is_taken_out_and_named(name: str) -> None:
    given = {name: HOSTILE[name]} | HARMLESS
    assert library_environment(given).get(name) != HOSTILE[name]
    assert taken_out(given) == [name]


def test_everything_else_stays() -> None:
    kept = library_environment(HARMLESS)
    assert {name: kept[name] for name in HARMLESS} == HARMLESS
    assert taken_out(HARMLESS) == []


def test_what_is_ours_does_not_depend_on_the_environment() -> None:
    ours = {
        name: value for name, value in library_environment(HOSTILE | HARMLESS).items() if name not in HARMLESS
    }
    assert ours == {
        name: value for name, value in library_environment({}).items() if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    assert ours["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert library_environment(library_environment(HOSTILE)) == library_environment(HOSTILE)


LEFT_OUT = """
import sys
from optduel.components.numerics import set_up_libraries
set_up_libraries()
import keras
assert not [name for name in sys.modules if name.partition(".")[0] in ("matplotlib", "sklearn")]
import sklearn.metrics
set_up_libraries()
assert sys.modules["sklearn"] is sklearn
"""


def test_what_keras_imports_for_others_is_left_out_and_can_be_imported_later() -> None:
    """A training process would take half as long again to start."""
    subprocess.run([sys.executable, "-c", LEFT_OUT], check=True, timeout=120)

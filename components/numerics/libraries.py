"""The settings of the numerical libraries: ours, whatever the user's home and environment say.

Keras reads its image layout, dtype, epsilon and back end from the home folder. TensorFlow, oneDNN, XLA, the
libraries of CUDA and the BLAS behind NumPy read variables that choose other kernels or another precision.
The same experiment would train another network, under the same fingerprint.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from optduel.components.core import SetupError

_TAKEN_OUT = (
    "BLIS_",
    "CUBLAS_",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "GOTO_",
    "KERAS_",
    "KMP_",
    "MKL_",
    "NPY_",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "TF_",
    "XLA_",
)
"""Beginnings of the names of variables that can change numbers."""

_KEPT = (
    "CUDNN_LOG",
    "KMP_DUPLICATE_LIB_OK",  # scikit-learn sets these two for its own process
    "KMP_INIT_AT_FORK",
    "TF_CLI_",  # Terraform's, not TensorFlow's
    "TF_CONFIG",  # the group, which the worker writes
    "TF_CPP_",  # what TensorFlow logs
    "TF_GPU_ALLOCATOR",
    "TF_GPU_THREAD_",
    "TF_VAR_",  # Terraform's
)
"""Of those the ones that change none: logs, memory, how threads are started, what others read."""

_OURS = {
    "KERAS_BACKEND": "tensorflow",
    # No folder, so that Keras finds no file there and writes none.
    "KERAS_HOME": os.devnull,
    # Two trials on one GPU: otherwise the first takes all of its memory.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    # Files and streams are UTF-8 in every locale; read when Python starts.
    "PYTHONUTF8": "1",
}

_LEFT_OUT = ("matplotlib", "sklearn")
"""Keras imports these, where they are, for what nothing here uses: a third of its start."""

_FLOAT = "float32"
_EPSILON = 1e-7
_LAYOUT = "channels_last"


def taken_out(environment: Mapping[str, str]) -> list[str]:
    """The names of the variables that `library_environment` does not pass on as they are, sorted."""
    kept = library_environment(environment)
    return sorted(name for name, value in environment.items() if kept.get(name) != value)


def library_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that computes: the given one without what can change numbers.

    Args:
        environment: of this process.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name.startswith(_KEPT) or not name.startswith(_TAKEN_OUT)
    }
    return {"TF_CPP_MIN_LOG_LEVEL": "2"} | kept | _OURS


def set_up_libraries() -> None:
    """Imports TensorFlow and Keras with our settings: deterministic, and float32 with all of its bits.

    To be called before either is imported; what BLAS reads when NumPy is imported is the parent's to give.

    Raises:
        SetupError: Keras runs in this process already, on another back end.
    """
    kept = library_environment(os.environ)
    for name in os.environ.keys() - kept.keys():
        del os.environ[name]
    os.environ.update(kept)
    with _without(_LEFT_OUT):
        import keras
        import tensorflow as tf

    if (backend := keras.config.backend()) != _OURS["KERAS_BACKEND"]:
        raise SetupError(
            f"KERAS_BACKEND = {backend}: Keras was imported before optduel could choose; start a new process"
        )
    keras.config.set_floatx(_FLOAT)
    keras.config.set_epsilon(_EPSILON)
    keras.config.set_image_data_format(_LAYOUT)
    keras.config.set_dtype_policy(_FLOAT)
    tf.config.experimental.enable_op_determinism()
    # On by default: from Ampere on, GPUs would keep ten bits of each factor in products called float32.
    tf.config.experimental.enable_tensor_float_32_execution(False)


@contextlib.contextmanager
def _without(packages: Sequence[str]) -> Iterator[None]:
    """Lets imports do as if these packages were not installed, unless they are imported already."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    absent = [name for name in packages if name not in modules]
    modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del modules[name]

"""Whether TensorFlow can use the GPUs that are there; where it cannot, it trains on processors unasked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from optduel.components.core import SetupError

_DEVICES = Path("/dev")

Gpu = TypeVar("Gpu")


def check_gpus(seen: int, is_cuda_build: bool, environ: Mapping[str, str], devices: Path = _DEVICES) -> None:
    """Refuses to go on without GPUs where there are some and nobody has hidden them.

    Args:
        seen: GPUs that TensorFlow has found.
        is_cuda_build: whether this TensorFlow could use NVIDIA's.
        environ: `CUDA_VISIBLE_DEVICES` hides GPUs, `NVIDIA_VISIBLE_DEVICES` is set where a cluster gave some.
        devices: where the driver's device files are.

    Raises:
        SetupError: there are NVIDIA GPUs, and TensorFlow sees none of them.
    """
    present = sum(1 for _ in devices.glob("nvidia[0-9]*"))
    is_hidden = environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}
    # A laptop with a GPU and a TensorFlow without CUDA is no mistake; a pod that was granted one is.
    is_meant = is_cuda_build or "NVIDIA_VISIBLE_DEVICES" in environ
    if seen or not present or is_hidden or not is_meant:
        return
    remedy = (
        "with TF_CPP_MIN_LOG_LEVEL=0 and TF_CPP_MAX_VLOG_LEVEL=1 its log names the library at fault"
        if is_cuda_build
        else "it is built without CUDA: take the gpu image"
    )
    raise SetupError(
        f"{devices}/nvidia* = {present} NVIDIA GPU(s), of which TensorFlow sees none: {remedy}; "
        "CUDA_VISIBLE_DEVICES=-1 trains on processors"
    )


def own_gpus(gpus: Sequence[Gpu], workers: int, place: int) -> Sequence[Gpu]:
    """A worker's share of the GPUs of its machine, as many as every other worker there has.

    Args:
        gpus: of the machine.
        workers: of the group, on the same machine.
        place: this one's among them, from 0.

    Raises:
        SetupError: there are more workers than GPUs, and two cannot train together on one.
    """
    share = len(gpus) // workers
    if gpus and not share:
        raise SetupError(
            f"compute.workers = {workers}: are on one machine with {len(gpus)} GPU(s), and each needs one of "
            "its own; use fewer workers, or train on processors with CUDA_VISIBLE_DEVICES=-1"
        )
    return gpus[place * share : (place + 1) * share]

"""Which arithmetic `precision: auto` stands for on the machines of a group."""

from collections.abc import Sequence, Set
from pathlib import Path

import tensorflow as tf

from optduel.components.train.model.engine import minima

BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""Processor features with which bfloat16 pays: on 2 cores with avx512_bf16 the tutorial's network took 117
images/s instead of 55. Without them it is emulated."""

BFLOAT16_CAPABILITY = (8, 0)
"""Compute capability from which NVIDIA's matrix units take bfloat16 (Ampere)."""


def resolve_precision(precision: str, strategy: tf.distribute.Strategy) -> str:
    """The dtype policy to train with: the one asked for, or with "auto" the fastest that suits all workers.

    Args:
        precision: `training.precision`.
        strategy: of the group; with "auto" all workers have to call this.
    """
    if precision != "auto":
        return precision
    own = _CHOICES.index(_own_choice())
    return _CHOICES[int(minima(strategy, [own])[0])]


def _own_choice() -> str:
    """What suits this machine."""
    details = [
        tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")
    ]
    capabilities = [detail.get("compute_capability", (0, 0)) for detail in details]
    return choose_precision(_processor_flags(), capabilities)


_CHOICES = ("float32", "mixed_bfloat16")
"""What "auto" stands for: first the one that suits every machine."""


def choose_precision(processor_flags: Set[str], gpu_capabilities: Sequence[tuple[int, int]]) -> str:
    """Mixed bfloat16 where every device that trains has units for it, else float32.

    Args:
        processor_flags: as Linux lists them; what counts where there is no GPU.
        gpu_capabilities: compute capability of each GPU.
    """
    if gpu_capabilities:
        pays = all(capability >= BFLOAT16_CAPABILITY for capability in gpu_capabilities)
    else:
        pays = bool(BFLOAT16_FLAGS & processor_flags)
    return "mixed_bfloat16" if pays else "float32"


def _processor_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # not Linux
        return frozenset()
    return frozenset(flag for line in lines if line.startswith("flags") for flag in line.split()[2:])

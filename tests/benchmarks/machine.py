"""The machine that the numbers come from, and the cores that are measured."""

import os
from pathlib import Path
from typing import Any

from optduel.components.results import environment

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "avx_ne_convert")


def measured_cores() -> tuple[int, ...]:
    """The first two cores that this process may use, or the only one."""
    return tuple(sorted(os.sched_getaffinity(0))[:2])


def describe_machine() -> dict[str, Any]:
    """Processor, memory in bytes, load, and the versions of code and packages; JSON values."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next((line.split() for line in cpuinfo if line.startswith("flags")), [])
    return {
        **environment().model_dump(mode="json"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "bfloat16_units": [flag for flag in BFLOAT16_FLAGS if flag in flags],
        "load_average": list(os.getloadavg()),
    }

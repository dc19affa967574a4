"""A virtual environment with PyTorch and NumPy, apart from ours: PyTorch is no dependency of optduel.

The package index' build for Linux on x86-64 is the one for CUDA, and does not import without its CUDA
libraries: 2.5 GB to download, 4.7 GB on disk. There is no smaller one by the name torch.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from optduel.components.core import say

VERSION = "2.13.0"
NEEDED_BYTES = 12 * 10**9
"""On disk while it is being installed: what is downloaded and what is unpacked."""

_SECONDS = 1800


def torch_python(folder: Path, is_to_install: bool) -> tuple[Path, str | None]:
    """The environment's interpreter.

    Args:
        folder: of the virtual environment.
        is_to_install: make it where it is not there yet.

    Returns:
        The interpreter, and None or why PyTorch cannot be used.
    """
    python = folder / "bin" / "python"
    if _imports(python):
        return python, None
    if not is_to_install:
        return python, f"PyTorch {VERSION} is not installed, and a quick run installs nothing"
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        need = f"PyTorch {VERSION} needs {NEEDED_BYTES / 1e9:.0f} GB to install"
        return python, f"{need}, {folder.parent} has {free / 1e9:.0f} GB left"
    say(f"installing PyTorch {VERSION} into {folder}: some minutes")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", f"torch=={VERSION}", "numpy"],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return python, f"PyTorch {VERSION} was not installed within {_SECONDS} s"
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            return python, f"PyTorch {VERSION} cannot be installed: {last[0]}"
    return python, None if _imports(python) else f"PyTorch {VERSION} is installed but cannot be imported"


def _imports(python: Path) -> bool:
    if not python.exists():
        return False
    program = f"import numpy, torch; assert torch.__version__.startswith('{VERSION}')"
    return subprocess.run([str(python), "-c", program], capture_output=True, check=False).returncode == 0

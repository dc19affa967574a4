"""Where numbers come from: code version, package versions, machine and times."""

import datetime
import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from optduel.components.core import usable_cores
from optduel.components.settings import Section

CODE_VERSION_VARIABLE = "OPTDUEL_CODE_VERSION"
"""Set in images at build time: the commit that they were built from."""

_PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-datasets",
    "keras",
    "kfp",
    "numpy",
    "pillow",
    "scikit-learn",
    "scipy",
)


class Environment(Section):
    """What a result was made with."""

    code_version: str
    python: str
    platform: str
    processor: str
    cores: int
    packages: dict[str, str]


def environment() -> Environment:
    """The environment of this process. Imports none of the packages whose versions it names."""
    return Environment(
        code_version=code_version(),
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=usable_cores(),
        packages={name: version for name in _PACKAGES if (version := _installed_version(name))},
    )


@functools.cache
def code_version() -> str:
    """The commit of this code, marked "-modified" where the checkout differs, else the package's version."""
    if stamped := os.environ.get(CODE_VERSION_VARIABLE):
        return stamped
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / ".git").exists() and shutil.which("git"):
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=-modified"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        if described.returncode == 0:
            return described.stdout.strip()
    return _installed_version("optduel") or "unknown"


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def _installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()

"""The locked requirements: complete, hashed, current, and free of any index address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCKS = {
    "images/requirements-build.txt": ([], ["build"]),
    "images/requirements-cpu.txt": (["cpu"], []),
    "images/requirements-gpu.txt": (["gpu"], []),
    "requirements-dev.txt": (["cpu"], ["build", "dev"]),
    "requirements-mlflow.txt": ([], ["mlflow"]),
}
"""Lock file: the extras and the dependency groups that it locks."""

each_lock = pytest.mark.parametrize("lock", LOCKS)


def entries(lock: str) -> list[str]:
    """The requirements of a lock file, continuation lines joined."""
    text = (REPOSITORY / lock).read_text()
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pins(lock: str) -> dict[str, set[str]]:
    """The versions of each package; more than one where they depend on Python's version."""
    found: dict[str, set[str]] = {}
    for entry in entries(lock):
        requirement = Requirement(entry.partition("--hash")[0])
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        found.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return found


def declared(lock: str) -> list[Requirement]:
    """What pyproject.toml asks for and the lock file has to hold."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    extras, groups = LOCKS[lock]
    texts = [
        text for group in groups for text in document["dependency-groups"][group] if isinstance(text, str)
    ]
    texts += [text for extra in extras for text in document["project"]["optional-dependencies"][extra]]
    texts += document["project"]["dependencies"] if extras else []
    return [Requirement(text) for text in texts]


@each_lock
def test_every_requirement_is_pinned_and_hashed(lock: str) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry), entry


@each_lock
def test_no_address_is_named(lock: str) -> None:
    text = (REPOSITORY / lock).read_text()
    assert re.findall(r".*(?:://|--index|--extra-index|--find-links|--trusted-host).*", text) == []


@each_lock
def test_the_lock_holds_what_the_project_asks_for(lock: str) -> None:
    locked = pins(lock)
    for requirement in declared(lock):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not locked: run make lock"
        assert all(version in requirement.specifier for version in versions), f"{requirement}: run make lock"


def test_all_locks_agree_on_versions() -> None:
    reference = pins("requirements-dev.txt")
    for lock in LOCKS.keys() - {"requirements-mlflow.txt"}:  # in an environment of its own
        differing = {
            name: found
            for name, found in pins(lock).items()
            if name in reference and found != reference[name]
        }
        assert differing == {}


def test_what_builds_dependencies_is_installed_before_them() -> None:
    assert pins("images/requirements-build.txt").keys() <= pins("requirements-dev.txt").keys()
    assert {"setuptools", "wheel", "hatchling", "editables"} <= pins("images/requirements-build.txt").keys()

import datetime
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.results import lineage

REPOSITORY = Path(__file__).parents[2]


def code_version(checkout: Path, **variables: str) -> str:
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from {lineage.__name__} import code_version; print(code_version())",
        ],
        cwd=checkout / ".src",
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return finished.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code in a repository of its own, with one commit."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    for room in ("redaction", "core", "decoding", "settings", "storage", "records", "results"):
        shutil.copytree(
            REPOSITORY / "components" / room,
            tmp_path / "components" / room,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    (tmp_path / "components" / "__init__.py").touch()
    (tmp_path / ".src" / "optduel").mkdir(parents=True)
    (tmp_path / ".src" / "optduel" / "components").symlink_to("../../components")
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "--no-verify", "-m", "test"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_code_of_a_checkout_is_named_by_its_commit(checkout: Path) -> None:
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert code_version(checkout) == head.stdout[:12]
    with (checkout / "components" / "results" / "history.py").open("a") as file:
        file.write("changed = True\n")
    assert code_version(checkout) == head.stdout[:12] + "-modified"


def test_code_in_an_image_is_named_by_the_stamp(checkout: Path) -> None:
    assert code_version(checkout, OPTDUEL_CODE_VERSION="abc123") == "abc123"


def test_a_checkout_without_git_installed_is_named_by_the_package(checkout: Path) -> None:
    assert code_version(checkout, PATH="/nonexistent") == importlib.metadata.version("optduel")


def test_a_repository_without_commits_is_named_by_the_package(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    assert code_version(checkout) == importlib.metadata.version("optduel")


def test_the_environment_names_what_is_installed_without_importing_it() -> None:
    code = """
import json, sys
from optduel.components.results.lineage import environment
found = json.loads(environment().canonical_json())
found["loaded"] = sorted({"tensorflow", "keras", "kfp", "sklearn", "scipy"} & sys.modules.keys())
print(json.dumps(found))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(finished.stdout)
    assert found["loaded"] == []
    assert found["python"] == sys.version.split()[0]
    assert found["packages"]["keras"] == importlib.metadata.version("keras")
    assert {"numpy", "kfp", "scikit-learn"} <= found["packages"].keys()
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert found["processor"]
    assert found["platform"]


def test_times_are_utc_to_the_second() -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    moment = datetime.datetime.fromisoformat(lineage.now())
    assert before <= moment <= datetime.datetime.now(datetime.UTC)
    assert lineage.now().endswith("+00:00")

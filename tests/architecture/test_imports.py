"""The import contracts hold, and each of them can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STAGES = ("prepare", "train", "evaluate", "compare", "report")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    command += ["--config", str(REPOSITORY / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_import_contracts_hold() -> None:
    finished = lint_imports(REPOSITORY)
    assert finished.returncode == 0, finished.stdout


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Packages of the project's shape that keep every contract."""
    for package in (
        "pipeline",
        "components",
        "components/core",
        *(f"components/{stage}" for stage in STAGES),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for stage in STAGES:
        (tmp_path / "components" / stage / "component.py").write_text("from kfp import dsl\n")
        (tmp_path / "components" / stage / "work.py").write_text("import optduel.components.core\n")
    (tmp_path / "components" / "core" / "storage").mkdir()
    (tmp_path / "components" / "core" / "storage" / "__init__.py").touch()
    (tmp_path / "components" / "core" / "storage" / "clients.py").write_text(
        "import botocore\nimport google.auth\n"
    )
    (tmp_path / "components" / "train" / "work.py").write_text(
        "import tensorflow\nimport optduel.components.core\n"
    )
    (tmp_path / "components" / "train" / "cluster").mkdir()
    (tmp_path / "components" / "train" / "cluster" / "__init__.py").touch()
    (tmp_path / "components" / "train" / "cluster" / "api.py").write_text("import kubernetes\n")
    (tmp_path / "pipeline" / "doctor_api.py").write_text("import kubernetes\n")
    (tmp_path / "pipeline" / "graph.py").write_text("import optduel.components.train.component\nimport kfp\n")
    return tmp_path


def test_the_skeleton_keeps_the_contracts(skeleton: Path) -> None:
    finished = lint_imports(skeleton)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("components/train/work.py", "optduel.components.prepare.work", "Stages stand on the core"),
        ("components/core/work.py", "optduel.components.train", "Stages stand on the core"),
        ("components/new/__init__.py", "sys", "Stages stand on the core"),
        ("components/core/work.py", "optduel.pipeline.graph", "The work does not know the pipeline"),
        ("components/train/work.py", "optduel.components.train.component", "A component is a face"),
        ("components/train/work.py", "kfp", "Only components and the pipeline know KFP"),
        ("components/core/work.py", "kfp.dsl", "Only components and the pipeline know KFP"),
        ("components/compare/work.py", "keras", "Only training and evaluation compute with TensorFlow"),
        ("components/core/work.py", "tensorflow", "Only training and evaluation compute with TensorFlow"),
        (
            "components/train/work.py",
            "tensorflow_datasets",
            "Only the sources of prepare read TensorFlow Datasets",
        ),
        ("pipeline/graph.py", "tensorflow.data", "The pipeline itself loads no TensorFlow"),
        ("components/train/work.py", "kubernetes.client", "Only the cluster's launcher and the doctor"),
        ("pipeline/graph.py", "kubernetes.client", "Only the cluster's launcher and the doctor"),
        ("components/core/work.py", "botocore.session", "Only core.storage knows storage clients"),
        ("components/prepare/work.py", "google.cloud.storage", "Only core.storage knows storage clients"),
    ],
)
def test_each_contract_can_fail(skeleton: Path, module: str, imported: str, contract: str) -> None:
    (skeleton / module).parent.mkdir(exist_ok=True)
    # Within a function, too: an import that is late is an import.
    (skeleton / module).write_text(f"def late() -> None:\n    import {imported}\n")
    finished = lint_imports(skeleton)
    assert finished.returncode == 1, finished.stdout
    broken = [line for line in finished.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), finished.stdout

"""The import contracts hold, and each of them can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STAGES = (
    "tune",
    "choose",
    "prepare",
    "train",
    "evaluate",
    "compare",
    "report",
    "decide",
    "gate",
    "promote",
    "tell",
)
SHARED = (
    "redaction",
    "decoding",
    "core",
    "storage",
    "settings",
    "kubernetes",
    "numerics",
    "workflows",
    "augmentation",
    "pretrained",
    "records",
    "results",
    "champions",
)
TRAIN = ("contract", "model", "loop", "worker", "local", "cluster")
PIPELINE = ("cli", "doctor", "local", "kfp", "graph")


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
    components, pipeline = tmp_path / "optduel" / "components", tmp_path / "optduel" / "pipeline"
    folders = [
        components,
        *(components / name for name in (*SHARED, *STAGES)),
        components / "prepare" / "sources",
    ]
    folders += [
        *(components / "train" / name for name in TRAIN),
        pipeline,
        *(pipeline / name for name in PIPELINE),
    ]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    for stage in STAGES:
        (components / stage / "component.py").write_text("from kfp import dsl\n")
        (components / stage / "stage.py").write_text("import optduel.components.core\n")
    (components / "storage" / "clients.py").write_text("import botocore\nimport google.auth\n")
    (components / "kubernetes" / "api.py").write_text("import kubernetes\n")
    (components / "prepare" / "sources" / "tfds.py").write_text("import tensorflow_datasets\n")
    (components / "train" / "loop" / "loop.py").write_text(
        "import tensorflow\nimport optduel.components.core\n"
    )
    (pipeline / "graph" / "definition.py").write_text(
        "import optduel.components.train.component\nimport kfp\n"
    )
    return tmp_path


def test_the_skeleton_keeps_the_contracts(skeleton: Path) -> None:
    finished = lint_imports(skeleton)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("components/train/stage.py", "optduel.components.prepare.stage", "Stages stand on shared rooms"),
        ("components/core/work.py", "optduel.components.train", "Stages stand on shared rooms"),
        ("components/core/work.py", "optduel.components.storage", "Stages stand on shared rooms"),
        ("components/records/work.py", "optduel.components.results", "Stages stand on shared rooms"),
        ("components/settings/work.py", "optduel.components.kubernetes", "Stages stand on shared rooms"),
        ("components/new/__init__.py", "sys", "Stages stand on shared rooms"),
        ("components/train/contract/work.py", "optduel.components.train.model", "The train stage has layers"),
        ("components/train/loop/work.py", "optduel.components.train.worker", "The train stage has layers"),
        ("components/train/cluster/work.py", "optduel.components.train.local", "The train stage has layers"),
        ("components/train/new.py", "sys", "The train stage has layers"),
        ("pipeline/graph/work.py", "optduel.pipeline.local", "The pipeline has layers"),
        ("pipeline/local/work.py", "optduel.pipeline.kfp", "The pipeline has layers"),
        ("pipeline/kfp/work.py", "optduel.pipeline.cli", "The pipeline has layers"),
        ("components/core/work.py", "optduel.pipeline.graph", "The work does not know the pipeline"),
        ("components/train/stage.py", "optduel.components.train.component", "A component is a face"),
        ("pipeline/local/work.py", "optduel.components.train.component", "A component is a face"),
        ("components/train/stage.py", "kfp", "Only components and the pipeline know KFP"),
        ("components/core/work.py", "kfp.dsl", "Only components and the pipeline know KFP"),
        ("components/compare/stage.py", "keras", "Only training and evaluation compute"),
        ("components/core/work.py", "tensorflow", "Only training and evaluation compute"),
        (
            "components/train/stage.py",
            "tensorflow_datasets",
            "Only the sources of prepare",
        ),
        (
            "components/prepare/stage.py",
            "tensorflow_datasets",
            "Only the sources of prepare",
        ),
        ("pipeline/graph/work.py", "tensorflow.data", "The pipeline itself loads no TensorFlow"),
        ("components/train/cluster/work.py", "kubernetes.client", "Only the room kubernetes knows"),
        ("pipeline/doctor/work.py", "kubernetes.client", "Only the room kubernetes knows"),
        ("components/core/work.py", "botocore.session", "Only the room storage knows"),
        (
            "components/prepare/stage.py",
            "google.cloud.storage",
            "Only the room storage knows",
        ),
    ],
)
def test_each_contract_can_fail(skeleton: Path, module: str, imported: str, contract: str) -> None:
    path = skeleton / "optduel" / module
    path.parent.mkdir(exist_ok=True)
    # Within a function, too: an import that is late is an import.
    path.write_text(f"def late() -> None:\n    import {imported}\n")
    finished = lint_imports(skeleton)
    assert finished.returncode == 1, finished.stdout
    broken = [line for line in finished.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), finished.stdout

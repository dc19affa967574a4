import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_the_wheel_holds_code_experiments_and_templates(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=120, check=True)
    (wheel,) = tmp_path.glob("optduel-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licenses = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    sources = [path for package in ("pipeline", "components") for path in (REPOSITORY / package).rglob("*")]
    expected = {
        f"optduel/{path.relative_to(REPOSITORY)}"
        for path in sources
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.parent != REPOSITORY / "pipeline/experiments/results"
        and path.name != "README.md"
        and not path.name.startswith(".")
    }
    assert packed == expected
    assert any(name.startswith("optduel/pipeline/experiments/") and name.endswith(".yaml") for name in packed)
    assert licenses

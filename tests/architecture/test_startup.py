"""What it costs to ask the command line a question."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "kfp", "tensorflow_datasets", "sklearn", "matplotlib", "pyarrow")


def heavy_modules_after(code: str) -> list[str]:
    report = f"import sys; print('loaded:', *sorted(set({HEAVY!r}) & sys.modules.keys()))"
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return finished.stdout.splitlines()[-1].split()[1:]


def test_importing_the_command_line_loads_no_framework() -> None:
    assert heavy_modules_after("import optduel.pipeline.cli.command_line") == []


def test_importing_the_shared_rooms_loads_no_framework() -> None:
    rooms = ("core", "settings", "storage", "numerics", "records", "results")
    assert heavy_modules_after(f"from optduel.components import {', '.join(rooms)}") == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["list"], ["show", "digits"]], ids=" ".join
)
def test_answers_that_need_no_framework_load_none(arguments: list[str]) -> None:
    code = f"""
from optduel.pipeline.cli.command_line import main
try:
    code = main({arguments!r})
except SystemExit as ended:
    code = ended.code
assert not code, code
"""
    assert heavy_modules_after(code) == []


def test_the_console_command_is_installed() -> None:
    command = Path(sys.executable).with_name("optduel")
    finished = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert finished.stdout.startswith("usage: optduel")
    assert finished.stderr == ""

"""Figures do not depend on the settings of matplotlib that a user, a notebook or a folder has."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DRAW = """
import hashlib
from optduel.components.report.drawing import Figure, figure_files, figure_style
with figure_style():
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1, 2], [1, 3, 2], label="$x$ with a_b")
    axes.set_title("100 % $x$")
    axes.legend()
    files = figure_files("figure", figure)
for content in files.values():
    print(hashlib.sha256(content).hexdigest())
"""

LOUD = "text.usetex: true\nfont.size: 30\nlines.linewidth: 9\naxes.grid.axis: x\npath.sketch: 1, 100, 2\n"


def digests(folder: Path, **variables: str) -> list[str]:
    """Of the figure's files, drawn by a process in `folder`, which is its home, too."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "MATPLOTLIB"))}
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        kept.pop(name, None)
    environment = {**kept, "HOME": str(folder), **variables}
    done = subprocess.run(
        [sys.executable, "-P", "-c", DRAW], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return digests(tmp_path_factory.mktemp("plain"))


def in_current_folder(folder: Path) -> dict[str, str]:
    (folder / "matplotlibrc").write_text(LOUD)
    return {}


def not_text(folder: Path) -> dict[str, str]:
    (folder / "matplotlibrc").write_bytes(b"font.family: M\xfcller\n")
    return {}


def a_pipe(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "matplotlibrc")
    return {}


def named_file(folder: Path) -> dict[str, str]:
    (folder / "mine").write_text(LOUD)
    return {"MATPLOTLIBRC": str(folder / "mine")}


def in_home(folder: Path) -> dict[str, str]:
    """With a style of the name that ours is based on."""
    settings = folder / "mpl"
    (settings / "stylelib").mkdir(parents=True)
    (settings / "matplotlibrc").write_text(LOUD)
    (settings / "stylelib" / "ggplot.mplstyle").write_text(LOUD)
    return {"MPLCONFIGDIR": str(settings)}


def notebook(folder: Path) -> dict[str, str]:
    return {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}


@pytest.mark.parametrize("spoil", [in_current_folder, not_text, a_pipe, named_file, in_home, notebook])
def test_figures_are_the_same_whatever_a_user_s_settings_say(
    spoil: Callable[[Path], dict[str, str]], expected: list[str], tmp_path: Path
) -> None:
    assert digests(tmp_path, **spoil(tmp_path)) == expected

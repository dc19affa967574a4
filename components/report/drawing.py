"""How every figure looks and is saved: ggplot style, one colour and marker per arm, reproducible files.

Only this module imports matplotlib, which reads settings of the user's while it is imported.
"""

import contextlib
import functools
import importlib.util
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def _nobody_s_settings() -> Iterator[Path]:
    """Lets matplotlib be imported without a user's settings: gives the folder of its own ones.

    MPLBACKEND, which notebooks set for their kernels, may name a module that is not installed here; a
    `matplotlibrc` of the current folder comes before all others, and one that cannot be read is an error.
    """
    package = importlib.util.find_spec("matplotlib")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    own = Path(package.origin).parent / "mpl-data"
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        with contextlib.chdir(own):
            yield own
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


with _nobody_s_settings() as _own:
    import matplotlib.font_manager
    import matplotlib.style
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

__all__ = [
    "COLOURS",
    "MARKERS",
    "Axes",
    "Figure",
    "MaxNLocator",
    "figure_files",
    "figure_style",
    "missing_letters",
    "printable",
]

COLOURS = (
    "#0072B2",
    "#C44601",
    "#117733",
    "#AA4499",
    "#997700",
    "#007A87",
    "#6A3D9A",
    "#8C564B",
    "#CC3311",
    "#5B7C00",
    "#882255",
    "#444444",
)
"""One for each of the at most twelve arms. Each has a contrast of 3 or more (WCAG 2.2, 1.4.11) with the grey
of ggplot's panels; the first two are told apart with every common colour blindness."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
"""The same distinction without colour."""

_USUAL = "DejaVu Sans"
"""Comes with matplotlib: the same figure on every machine. It has Latin, Cyrillic and Arabic letters, say."""

_FONT_FILES = {
    "noto_cjk_sans_jp_regular": "*.otf",  # Chinese, Japanese, Korean
    "fontpkg_noto_sans_devanagari": "files/*.ttf",
}
"""Packages of fonts and where the files lie in them, for what the usual font lacks."""

_SETTINGS = {
    "svg.hashsalt": "optduel",  # else every file has element names of its own
    "text.parse_math": False,  # a dollar sign in a class's name is a dollar sign
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "axes.titlesize": "large",
    "legend.framealpha": 0.85,
    "savefig.dpi": 150,
}


@contextlib.contextmanager
def figure_style(texts: Iterable[str] = ()) -> Iterator[None]:
    """Within this context figures are made, and only within it do they look right when they are saved.

    Args:
        texts: names in any script that the figures show.
    """
    # All defaults first, whatever was set before; and by its file, as a user's style may be called ggplot.
    ggplot = _own / "stylelib" / "ggplot.mplstyle"
    fonts = {"font.family": _families_for(set().union(*texts))}
    with matplotlib.style.context(["default", ggplot, _SETTINGS | fonts]):
        yield


def figure_files(name: str, figure: Figure) -> dict[str, bytes]:
    """The figure as `name`.png and `name`.svg: equal figures give equal bytes."""
    files = {}
    # Laid out once for both files, which halves the time: each save would begin with a layout of its own.
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
        files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def printable(text: str) -> str:
    """The text as a figure can show it: with a box for what no font has."""
    missing = missing_letters([text])
    return "".join("□" if character in missing else character for character in text)


def missing_letters(texts: Iterable[str]) -> set[str]:
    """The characters that no font has."""
    letters = set().union(*texts)
    for family in _families_for(letters):
        letters = {letter for letter in letters if ord(letter) not in _known_characters(family)}
    return letters


def _families_for(letters: set[str]) -> list[str]:
    """The fonts that have these characters, the usual one first; others only where it lacks some."""
    families = [_USUAL]
    lacking = {letter for letter in letters if ord(letter) not in _known_characters(_USUAL)}
    for family in _further_fonts() if lacking else ():
        if any(ord(letter) in _known_characters(family) for letter in lacking):
            families.append(family)
    return families


@functools.cache
def _further_fonts() -> tuple[str, ...]:
    """Makes the fonts of the packages known to matplotlib; their families."""
    families = []
    for package, pattern in _FONT_FILES.items():
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            for path in sorted(Path(found.origin).parent.glob(pattern)):
                matplotlib.font_manager.fontManager.addfont(str(path))
                families.append(matplotlib.font_manager.fontManager.ttflist[-1].name)
    return tuple(families)


@functools.cache
def _known_characters(family: str) -> frozenset[int]:
    path = matplotlib.font_manager.findfont(family)
    return frozenset(code for code in matplotlib.font_manager.get_font(path).get_charmap() if code >= 32)

"""Finds experiments: those that come with optduel by name, a user's own by path."""

import difflib
import importlib.resources
from collections.abc import Iterable
from pathlib import Path

from components.core.authoring import parse_experiment
from components.core.errors import ExperimentError
from components.core.experiment import Experiment

_FOLDER = importlib.resources.files("pipeline") / "experiments"


def shipped_names() -> list[str]:
    """Names of the experiments that come with optduel."""
    files = [entry.name for entry in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def load_experiment(name_or_path: str, assignments: Iterable[str] = ()) -> Experiment:
    """Reads an experiment and applies assignments.

    Args:
        name_or_path: a shipped name, or the path of a YAML file.
        assignments: "path=value" each, as `--set` takes them.

    Raises:
        ExperimentError: there is no such experiment, or it breaks a rule.
    """
    if name_or_path in shipped_names():
        text = (_FOLDER / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return parse_experiment(text, name_or_path, assignments)
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        close = difflib.get_close_matches(name_or_path, shipped_names(), n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(shipped_names())}"
        raise ExperimentError(
            f"experiment = {name_or_path}: no such experiment; {remedy} (or give the path of a .yaml file)"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ExperimentError(f"experiment = {path}: {reason}; check the path") from error
    return parse_experiment(text, str(path), assignments)

"""Finds experiments and deployments: those that come with optduel by name, a user's own by path."""

import difflib
import importlib.resources
from collections.abc import Iterable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from optduel.components.core import ExperimentError
from optduel.components.settings import (
    MAX_CHARACTERS,
    Deployment,
    Experiment,
    load_fields,
    parse_deployment,
    parse_experiment,
)
from optduel.components.storage import kind_of

_EXPERIMENTS = importlib.resources.files("optduel.pipeline") / "experiments"
_DEPLOYMENTS = importlib.resources.files("optduel.pipeline") / "deployments"


def shipped_names() -> list[str]:
    """Names of the experiments that come with optduel."""
    return _names(_EXPERIMENTS)


def load_experiment(name_or_path: str, assignments: Iterable[str] = ()) -> Experiment:
    """Reads an experiment and applies assignments.

    Args:
        name_or_path: a shipped name, or the path of a YAML file.
        assignments: "path=value" each, as `--set` takes them.

    Raises:
        ExperimentError: there is no such experiment, or it breaks a rule.
    """
    text = _text("experiment", _EXPERIMENTS, name_or_path)
    return parse_experiment(text, name_or_path, assignments)


def load_deployment(name_or_path: str, assignments: Iterable[str] = ()) -> Deployment:
    """Reads a deployment, and what it builds on, and applies assignments.

    Args:
        name_or_path: a shipped name, or the path of a YAML file. Its field `extends`, if there, names the
            deployment of which it says the differences: a shipped one, or a file, from its own folder on.
        assignments: "path=value" each, as `--deploy` takes them.

    Raises:
        ExperimentError: there is no such deployment, or it breaks a rule.
    """
    assignments = list(assignments)
    if name_or_path in _names(_DEPLOYMENTS) and not any(one.startswith("image=") for one in assignments):
        raise ExperimentError(
            f"image: is required: the deployment {name_or_path} leaves it open; give --image REF, "
            "an image built by `make images` in a registry that the cluster can pull from"
        )
    return parse_deployment(_layers(name_or_path), name_or_path, assignments)


def deployment_fields(name_or_path: str) -> dict[str, Any]:
    """All fields of a deployment, those of what it builds on and the defaults included.

    An image that it leaves open is left out.

    Raises:
        ExperimentError: there is no such deployment, or it breaks a rule.
    """
    layers = _layers(name_or_path)
    is_open = not any("image" in layer for layer in layers)
    deployment = parse_deployment(layers, name_or_path, ["image=open:1"] if is_open else [])
    return deployment.model_dump(mode="json", exclude={"image"} if is_open else None)


def _layers(name_or_path: str) -> list[dict[str, Any]]:
    """The fields of a deployment, behind those of all that it builds on."""
    layers: list[dict[str, Any]] = []
    names = [name_or_path]
    while True:
        here = names[-1]
        fields = load_fields(_text("deployment", _DEPLOYMENTS, here), here, "a deployment")
        base = fields.pop("extends", None)
        layers.insert(0, fields)
        if base is None:
            return layers
        if not isinstance(base, str):
            raise ExperimentError(f"{here}: extends = {base!r}: must be the name or path of a deployment")
        if base not in _names(_DEPLOYMENTS):
            base = str(Path(here).parent / base) if Path(base).suffix else base
        if base in names:
            raise ExperimentError(f"{' extends '.join([*names, base])}: builds on itself; break the circle")
        names.append(base)


def _names(folder: Traversable) -> list[str]:
    files = [entry.name for entry in folder.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def _text(kind: str, folder: Traversable, name_or_path: str) -> str:
    shipped = _names(folder)
    if name_or_path in shipped:
        return (folder / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        close = difflib.get_close_matches(name_or_path, shipped, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(shipped)}"
        raise ExperimentError(
            f"{kind} = {name_or_path}: no such {kind}; {remedy} (or give the path of a .yaml file)"
        )
    if kind_of(path) not in (None, "file"):
        raise ExperimentError(f"{kind} = {name_or_path}: is no file; check the path")
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)  # one more shows that there are too many
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ExperimentError(f"{kind} = {name_or_path}: {reason}; check the path") from error

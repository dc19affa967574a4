"""Renders the manifests as `kubectl apply -k` would, and finds what they say about pods."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())

# The interpreter's own folder first: a locked wheel brings kubectl there.
KUBECTL = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")


def render(folder: Path) -> list[Object]:
    """The objects that applying a folder would send."""
    return list(yaml.load_all(_rendered(folder), yaml.CSafeLoader))


def overlay(name: str) -> list[Object]:
    """The objects of a committed overlay; a copy, which may be changed."""
    return render(MANIFESTS / "overlays" / name)


@functools.cache
def _rendered(folder: Path) -> str:
    assert KUBECTL is not None
    command = [KUBECTL, "kustomize", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""  # warnings of deprecated fields
    return finished.stdout


def render_with(folder: Path, resources: Sequence[Path], components: Sequence[str]) -> list[Object]:
    """What a kustomization of a user's own, in the empty `folder`, makes of resources and our components."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(path, folder) for path in resources],
        "components": [os.path.relpath(MANIFESTS / "components" / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The object of that kind and name."""
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def runtime_job(objects: Sequence[Object]) -> Object:
    """The specification of the job that the runtime makes."""
    runtime = find(objects, "ClusterTrainingRuntime", "tensorflow-distributed")
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]  # type: ignore[no-any-return]


def pod_templates(value: Any) -> Iterator[Object]:
    """Every pod template within a value, however deep."""
    if isinstance(value, Mapping):
        if isinstance(spec := value.get("spec"), Mapping) and "containers" in spec:
            yield dict(value)
        for inner in value.values():
            yield from pod_templates(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pod_templates(inner)

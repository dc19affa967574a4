"""What a real Kubeflow Pipelines answered; see recordings/README.md."""

import base64
import functools
import gzip
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings" / "kfp-2.17.0"


@functools.cache
def body(name: str) -> str:
    """An answer, as it was sent."""
    return gzip.decompress((FOLDER / f"{name}.body.gz").read_bytes()).decode()


def answer(name: str) -> Any:
    """An answer in JSON."""
    return json.loads(body(name))


def workflow(run: str) -> dict[str, Any]:
    """A recorded run's Workflow."""
    manifest: dict[str, Any] = json.loads(answer(f"{run}-v1beta1")["pipeline_runtime"]["workflow_manifest"])
    return manifest


def nodes_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """A Workflow's nodes, packed or not."""
    status = manifest["status"]
    if packed := status.get("compressedNodes"):
        nodes: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
        return nodes
    return dict(status.get("nodes", {}))

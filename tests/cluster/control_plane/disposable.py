"""A namespace of a real cluster, with our manifests in it; everything is removed afterwards."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kustomize import KUBECTL, Object, overlay

KUBECONFIG = os.environ.get("OPTDUEL_TEST_KUBECONFIG")  # before the environment is cleaned
STEPS = "pipeline-runner"
_RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def missing() -> str:
    """Why these tests cannot run here; empty where they can."""
    if not KUBECONFIG:
        return "OPTDUEL_TEST_KUBECONFIG names no kubeconfig of a disposable cluster with Kubeflow Trainer"
    return "" if KUBECTL else "kubectl is not installed"


class Disposable:
    """The namespace, which admits only pods of the Pod Security Standard `restricted`."""

    def __init__(self) -> None:
        self.namespace = f"optduel-test-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> "Disposable":
        self.kubectl("create", "namespace", self.namespace)
        self.kubectl("label", "namespace", self.namespace, _RESTRICTED)
        self.kubectl("create", "serviceaccount", STEPS)
        self.apply(self.manifests("kind"))
        return self

    def __exit__(self, *_: object) -> None:
        self.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl prints; AssertionError with its words where it fails."""
        command = [str(KUBECTL), "--kubeconfig", str(KUBECONFIG), "--namespace", self.namespace, *arguments]
        finished = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=60
        )
        assert finished.returncode == 0, f"{arguments}: {finished.stderr}"
        return finished.stdout

    def manifests(self, name: str) -> list[Object]:
        """The objects of an overlay, those of a namespace in this one."""
        return list(self._moved(overlay(name)))

    def apply(self, objects: list[Object]) -> list[str]:
        """Applies objects, unknown fields refused; returns their versions."""
        text = yaml.safe_dump_all(objects)
        flags = ["--server-side", "--force-conflicts", "--validate=strict", "-f", "-"]
        self.kubectl("apply", *flags, "--dry-run=server", text=text)
        applied = self.kubectl("apply", *flags, "-o", "json", text=text)
        return [one["metadata"]["resourceVersion"] for one in json.loads(applied)["items"]]

    def write_kubeconfig(self, path: Path, account: str) -> Path:
        """Writes a file for KUBECONFIG by which a process is this service account, for ten minutes."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        token = self.kubectl("create", "token", account, "--duration=10m").strip()
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = self.namespace
        path.write_text(json.dumps(config))
        return path

    def jobs(self) -> list[str]:
        """Names of the TrainJobs that are there."""
        return self.kubectl("get", "trainjobs", "-o", "name").split()

    def _moved(self, objects: list[Object]) -> Iterator[Object]:
        for one in objects:
            if "namespace" in one["metadata"]:
                one["metadata"]["namespace"] = self.namespace
            for subject in _accounts(one):
                subject["namespace"] = self.namespace
            yield one


def _accounts(binding: Object) -> list[dict[str, Any]]:
    return [one for one in binding.get("subjects", []) if one["kind"] == "ServiceAccount"]

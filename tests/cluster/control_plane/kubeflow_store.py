"""Kubeflow Pipelines' own store, reached from this host, and its key in the tests' namespace."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.cluster.control_plane.disposable import KUBECONFIG, Disposable
from tests.cluster.kustomize import KUBECTL

SECRET = "mlpipeline-minio-artifact"
KEYS = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
IN_KUBEFLOW = ("--namespace", "kubeflow")


@dataclass(frozen=True)
class KubeflowStore:
    """What finds the store: `environment` on this host, `pods` in the workers."""

    environment: dict[str, str]
    pods: list[dict[str, object]]


def is_missing(disposable: Disposable) -> bool:
    """Whether the cluster has no such store."""
    found = disposable.kubectl("get", "services", *IN_KUBEFLOW, "--output=name")
    return "service/seaweedfs" not in found.split()


@contextmanager
def kubeflow_store(disposable: Disposable) -> Iterator[KubeflowStore]:
    """Copies the secret into the namespace, and forwards a port of this host to the store."""
    found = json.loads(disposable.kubectl("get", "secret", SECRET, *IN_KUBEFLOW, "--output=json"))
    copied = {key: found[key] for key in ("apiVersion", "kind", "data")} | {"metadata": {"name": SECRET}}
    disposable.kubectl("apply", "--filename=-", text=json.dumps(copied))
    forward = ["port-forward", "service/seaweedfs", ":9000", *IN_KUBEFLOW]
    with subprocess.Popen(
        [str(KUBECTL), "--kubeconfig", str(KUBECONFIG), *forward], stdout=subprocess.PIPE, text=True
    ) as forwarding:
        try:
            assert forwarding.stdout is not None
            told = forwarding.stdout.readline()
            port = re.search(r"127\.0\.0\.1:(\d+)", told)
            assert port, told
            environment = {name: base64.b64decode(found["data"][key]).decode() for name, key in KEYS.items()}
            environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port[1]}"
            pods: list[dict[str, object]] = [
                {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}}
                for name, key in KEYS.items()
            ]
            yield KubeflowStore(environment, pods)
        finally:
            forwarding.terminate()

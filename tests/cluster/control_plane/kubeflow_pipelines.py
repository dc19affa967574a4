"""Kubeflow Pipelines of a cluster, reached from this host at both of its addresses, and what it answers.

    python -m tests.cluster.control_plane.kubeflow_pipelines FOLDER RUN...

writes its answers about runs, given by identifier, to a folder, as those in tests/cluster/recordings are.
"""

import gzip
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane.disposable import KUBECONFIG
from tests.cluster.kustomize import KUBECTL

UNKNOWN = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Addresses:
    """Of the UI, which people have, and of the API server behind it."""

    ui: str
    api: str


@contextmanager
def forwarded() -> Iterator[Addresses]:
    """Forwards a port of this host to each."""
    with ExitStack() as stack:
        ui = stack.enter_context(_forwarded("service/ml-pipeline-ui", 80))
        yield Addresses(ui, stack.enter_context(_forwarded("service/ml-pipeline", 8888)))


@contextmanager
def _forwarded(service: str, port: int) -> Iterator[str]:
    command = [str(KUBECTL), "--kubeconfig", str(KUBECONFIG), "port-forward", service, f":{port}"]
    with subprocess.Popen(
        [*command, "--namespace", "kubeflow"], stdout=subprocess.PIPE, text=True
    ) as forward:
        try:
            assert forward.stdout is not None
            told = forward.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", told)
            assert found, f"{service}: {told}"
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            forward.terminate()


def record(addresses: Addresses, folder: Path, runs: list[str]) -> None:
    """Writes the answers, and what was asked for each in index.tsv."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = {
        "healthz-through-ui": (addresses.ui, "/apis/v2beta1/healthz"),
        "healthz-of-api-server": (addresses.api, "/apis/v2beta1/healthz"),
        "recurringruns": (addresses.ui, "/apis/v2beta1/recurringruns"),
        "run-unknown": (addresses.ui, f"/apis/v2beta1/runs/{UNKNOWN}"),
    }
    for run in runs:
        asked[f"run-{run}"] = (addresses.ui, f"/apis/v2beta1/runs/{run}")
        asked[f"run-{run}-v1beta1"] = (addresses.ui, f"/apis/v1beta1/runs/{run}")
        log = f"/apis/v1alpha1/runs/{run}/nodes/x/log"
        asked["logs-v1alpha1-through-ui"] = (addresses.ui, log)
        asked["logs-v1alpha1-unknown-node"] = (addresses.api, log)
    lines = ["recording\trequest\tstatus\tcontent type\tsize"]
    for name, (address, path) in asked.items():
        try:
            with urllib.request.urlopen(address + path, timeout=60) as answer:
                status, kind, content = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers["Content-Type"], error.read()
        (folder / f"{name}.body.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        lines.append(f"{name}\t{path}\t{status}\t{kind}\t{len(content)} bytes")
    (folder / "index.tsv").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    with forwarded() as found:
        record(found, Path(sys.argv[1]), sys.argv[2:])

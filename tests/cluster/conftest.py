"""A cluster with our runtime and our Role, and launchers that find it."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optduel.components.kubernetes import Timing
from optduel.components.settings import Deployment, Experiment, validate
from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
from optduel.components.train.contract import restarts
from optduel.components.train.contract.task import Task
from optduel.pipeline.graph import definition
from optduel.pipeline.kfp import submission
from tests.cluster.controllers import Cluster, meanwhile
from tests.cluster.kubernetes_server import KubernetesServer
from tests.cluster.roles import FOR_EVERYONE, launcher_permissions

Train = Callable[..., None]

FAST = {
    "answer": 5.0,
    "away": 1.0,
    "refusal": 0.5,
    "watch": 5.0,
    "poll": 0.02,
    "first_pause": 0.02,
    "longest_pause": 0.1,
    "log_pause": 0.02,
    "unstartable": 0.2,
    "unexplained": 0.1,
    "podless": 0.2,
    "deletion": 0.3,
    "workflow": 0.05,
    "last_lines": 5.0,
}
"""A cluster's waiting times, shortened."""

RUNTIME_TOLERATION = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
IMAGE = "registry.example.com/optduel@sha256:" + "0" * 64


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    """An API server that allows no more than our Role does, for a process outside of any pod."""
    for name in list(os.environ):
        if "proxy" in name.lower() or name.startswith(("KFP_POD_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    with KubernetesServer(token="secret", granted=launcher_permissions() | FOR_EVERYONE) as running:
        pod = {"spec": {"containers": [{"name": "node"}], "tolerations": [RUNTIME_TOLERATION]}}
        node = {"name": "node", "template": {"spec": {"template": pod}}}
        runtime = {
            "metadata": {"name": "tensorflow-distributed"},
            "spec": {"mlPolicy": {"numNodes": 1}, "template": {"spec": {"replicatedJobs": [node]}}},
        }
        running.add("clustertrainingruntimes", runtime)
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.setattr(restarts, "FIRST_PAUSE_SECONDS", 0.02)
        yield running


@pytest.fixture
def cluster(server: KubernetesServer) -> Cluster:
    """Plays Trainer and what belongs to it."""
    return Cluster(server)


@pytest.fixture
def tf_cluster(server: KubernetesServer) -> Cluster:
    """Plays training-operator."""
    return Cluster(server, "tfjobs")


@pytest.fixture
def step_pod(server: KubernetesServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process is a step of the returned Workflow."""
    server.add("workflows", {"metadata": {"name": "optduel-abc"}, "spec": {}})
    labels = {"workflows.argoproj.io/workflow": "optduel-abc"}
    server.add("pods", {"metadata": {"name": "optduel-abc-1", "labels": labels}, "status": {}})
    monkeypatch.setenv("KFP_POD_NAME", "optduel-abc-1")
    return "optduel-abc"


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A trial of two workers, whose records nobody opens."""
    return make_task(tmp_path / "trial")


def make_task(output: Path, **compute: Any) -> Task:
    split = {"records": 1, "class_counts": [1], "shards": []}
    manifest = {
        "name": "none",
        "fingerprint": "0" * 64,
        "source": "none",
        "classes": ["one"],
        "image_shape": [8, 8, 1],
        "encoding": "raw",
        "example_bytes": 1,
        "image_offset": 0,
        "label_offset": 0,
        "splits": {"train": split},
        "duplicates": {"groups": 0, "images": 0},
    }
    authored = {
        "model": {"name": "linear"},
        "arm": {
            "name": "adamw",
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "learning_rate": {"schedule": "constant", "base": 0.001},
        },
        "training": {"epochs": 1, "global_batch_size": 1},
        "compute": {"workers": 2, "restarts": 3} | compute,
        "seed": 7,
        "records": {"location": "gs://bucket/records", "manifest": manifest},
        "output": str(output),
    }
    return validate(Task, authored, "task")


def job_json(**job: Any) -> str:
    return json.dumps({"image": IMAGE, "gang_seconds": 20, "run_seconds": 20, "queue_seconds": 20} | job)


def make_launcher(
    task_config: dict[str, Any] | None = None, timing: dict[str, float] | None = None, **job: Any
) -> ClusterLauncher:
    """A launcher of the task "task-1" of the run "run-1".

    Args:
        task_config: fields of KFP's TaskConfig.
        timing: over the shortened ones.
        job: fields of the deployment's job section.
    """
    settings = Timing(**(FAST | (timing or {})))
    return ClusterLauncher(job_json(**job), "run-1", "task-1", task_config or {}, settings)


_PACKAGES: dict[str, bytes] = {}


@pytest.fixture
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal experiments and deployments are compiled once in a process: it takes seconds."""

    def compiled(experiment: Experiment, deployment: Deployment) -> bytes:
        key = experiment.canonical_json() + deployment.canonical_json()
        if key not in _PACKAGES:
            _PACKAGES[key] = definition.compiled(experiment, deployment)
        return _PACKAGES[key]

    monkeypatch.setattr(submission, "compiled", compiled)


@pytest.fixture
def narration() -> io.StringIO:
    """What launchers print to standard error, while they print it."""
    return io.StringIO()


@pytest.fixture
def train(server: KubernetesServer, task: Task, narration: io.StringIO) -> Train:
    """Trains the task, or another one, while something is played; options are those of `make_launcher`."""

    def run(play: Callable[[], None] = lambda: None, its_task: Task = task, **options: Any) -> None:
        with meanwhile(play), contextlib.redirect_stderr(narration):
            make_launcher(**options).run(its_task)

    return run

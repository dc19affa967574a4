"""Workers as pods of a real cluster: admitted as `restricted`, and their history is that of processes."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from optduel.components.records import Records
from optduel.components.storage import delete, list_entries
from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.cluster.conftest import job_json
from tests.cluster.containers.podman import IMAGE
from tests.cluster.control_plane.disposable import Disposable
from tests.cluster.control_plane.kubeflow_store import KubeflowStore, is_missing, kubeflow_store
from tests.cluster.controllers import meanwhile
from tests.faults.conftest import make_task
from tests.faults.groups import results
from tests.faults.stored_trials import stored_task
from tests.train.processes import wait_until

EPOCHS = 60
COMPUTE = {"workers": 2, "checkpoint_steps": None}
RESOURCES = {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "1536Mi"}}


@pytest.fixture
def kubeflow(disposable: Disposable, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeflowStore]:
    """The cluster's store; skips where it has none, or its nodes no image."""
    if not IMAGE:
        pytest.skip("OPTDUEL_TEST_IMAGE names no image that the cluster's nodes have")
    if is_missing(disposable):
        pytest.skip("the cluster has no SeaweedFS of Kubeflow Pipelines")
    with kubeflow_store(disposable) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture
def root(disposable: Disposable, kubeflow: KubeflowStore) -> Iterator[str]:
    """A place in the store, empty again afterwards."""
    place = f"minio://mlpipeline/{disposable.namespace}"
    yield place
    for entry in list_entries(place):
        delete(entry.uri)


def longer(task: Task) -> Task:
    """Long enough for something to happen meanwhile."""
    return task.model_copy(update={"training": task.training.model_copy(update={"epochs": EPOCHS})})


@pytest.mark.slow
@pytest.mark.usefixtures("as_steps")
def test_a_worker_that_is_drained_restarts_the_group_and_changes_no_number(
    disposable: Disposable, kubeflow: KubeflowStore, root: str, records: Records, tmp_path: Path
) -> None:
    undisturbed = longer(make_task(records, tmp_path / "undisturbed", **COMPUTE))
    LocalLauncher().run(undisturbed)
    task = longer(stored_task(records, root, **COMPUTE))
    narration = io.StringIO()

    def drain() -> None:
        wait_until(lambda: f"epoch 5/{EPOCHS}" in narration.getvalue(), 120)
        pods = disposable.kubectl("get", "pods", "--output=name").split()
        disposable.kubectl("delete", pods[1], "--wait=false")

    job = job_json(image=IMAGE, gang_seconds=120, run_seconds=300)
    placed = {"env": kubeflow.pods, "resources": RESOURCES}
    with meanwhile(drain), contextlib.redirect_stderr(narration):
        ClusterLauncher(job, "drained", "task", placed).run(task)
    assert "all workers start again (restart 1)" in narration.getvalue()
    assert "worker 0 | " in narration.getvalue()
    assert results(task) == results(undisturbed)

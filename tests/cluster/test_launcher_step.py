"""The training step as Kubeflow Pipelines runs it, down to a worker that is started as its pod would be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import dsl

from optduel.components.records import Records
from optduel.components.settings import canonical_json
from optduel.components.train.component import train_on_cluster
from optduel.components.train.contract.task import WORKER_MODULE, Task
from tests.cluster.conftest import job_json, make_task
from tests.cluster.controllers import Cluster, meanwhile


@pytest.mark.slow
def test_a_step_ends_with_the_model_that_its_worker_trained(
    cluster: Cluster, records: Records, tmp_path: Path
) -> None:
    task: Task = make_task(tmp_path / "unused", workers=1)
    records_file = tmp_path / "records.json"
    records_file.write_text(records.canonical_json())
    model = dsl.Model(uri=str(tmp_path / "model"))
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))

    def play() -> None:
        name = cluster.wait_for_job()
        (job,) = cluster.jobs()
        pods = cluster.run(name)
        trainer = job["spec"]["trainer"]
        told = {entry["name"]: entry["value"] for entry in trainer["env"]}
        command = [sys.executable, "-m", WORKER_MODULE, *trainer["args"]]
        subprocess.run(command, env=os.environ | told, check=True, timeout=120)
        cluster.complete(name, pods)

    with meanwhile(play):
        train_on_cluster.python_func(
            sections=canonical_json(
                {
                    "model": task.model.model_dump(mode="json"),
                    "arm": task.arm.model_dump(mode="json"),
                    "training": {"epochs": 1, "global_batch_size": 64},
                    "compute": task.compute.model_dump(mode="json"),
                }
            ),
            seeds="[1]",
            chosen="",
            root=str(tmp_path / "root"),
            records=dsl.Dataset(uri=str(records_file)),
            job=job_json(gang_seconds=120, run_seconds=120),
            run="run-1",
            model=model,
            metrics=metrics,
            task_config=dsl.TaskConfig(env=[{"name": "TF_NUM_INTRAOP_THREADS", "value": "1"}]),
        )
    assert (tmp_path / "model/seed-1/model.keras").is_file()
    assert 0 < metrics.metadata["validation_accuracy"] <= 1
    assert {type(value) for value in metrics.metadata.values()} == {float}, "text is shown in quotes"

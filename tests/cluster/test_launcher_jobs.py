"""What a launcher makes of its arguments: names, the settings of KFP's TaskConfig, the places of jobs."""

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl

from optduel.components.core import ExperimentError
from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
from optduel.components.train.cluster.jobs import LONGEST_NAME, job_name, task_digest
from tests.cluster.conftest import IMAGE, RUNTIME_TOLERATION, Train, job_json, make_task
from tests.cluster.controllers import Cluster
from tests.cluster.kubernetes_objects import Object

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
SECRET = {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "store", "key": "id"}}}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
        }
    }
}
LEASE = {"name": "OPTDUEL_LEASE_SECONDS", "value": "600"}
RESOURCES = {"requests": {"cpu": "4"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}}
VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "images"}}
MOUNT = {"name": "data", "mountPath": "/data"}

TASK_CONFIG = dsl.TaskConfig(
    affinity=AFFINITY,
    tolerations=[TOLERATION],
    node_selector={"pool": "gpu"},
    env=[SECRET, {"name": "NCCL_DEBUG", "value": "WARN"}],
    volumes=[VOLUME],
    volume_mounts=[MOUNT],
    resources=RESOURCES,
)


def trained(cluster: Cluster, train: Train, **options: Any) -> Object:
    """The job of a trial that went well."""

    def play() -> None:
        job = cluster.wait_for_job()
        cluster.complete(job, cluster.run(job))

    train(play, **options)
    (job,) = cluster.jobs()
    return job


@given(st.text(), st.text(), st.integers(0, 9999))
def test_names_are_short_dns_labels_that_follow_from_run_and_task(run: str, task: str, attempt: int) -> None:
    name = job_name(task_digest(run, task), attempt)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= LONGEST_NAME
    assert name == job_name(task_digest(run, task), attempt)
    assert name != job_name(task_digest(run, task + "x"), attempt)


def test_every_setting_of_the_task_reaches_a_trainjobs_workers(cluster: Cluster, train: Train) -> None:
    job = trained(cluster, train, task_config=vars(TASK_CONFIG), service_account="trainer")
    trainer = job["spec"]["trainer"]
    assert trainer["image"] == IMAGE
    assert trainer["numNodes"] == 2
    assert trainer["resourcesPerNode"] == RESOURCES
    assert trainer["env"][:2] == [SECRET, {"name": "NCCL_DEBUG", "value": "WARN"}]
    name = job["metadata"]["name"]
    hosts = ",".join(f"{name}-node-0-{index}.{name}.team.svc:2222" for index in range(2))
    assert trainer["env"][2:] == [{"name": "OPTDUEL_PEERS", "value": hosts}, LEASE]
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["template"]["spec"]["template"]["spec"] == {
        "serviceAccountName": "trainer",
        "nodeSelector": {"pool": "gpu"},
        "affinity": AFFINITY,
        "tolerations": [RUNTIME_TOLERATION, TOLERATION],
        "volumes": [VOLUME],
        "containers": [{"name": "node", "volumeMounts": [MOUNT]}],
    }


def test_every_setting_of_the_task_reaches_a_tfjobs_workers(tf_cluster: Cluster, train: Train) -> None:
    options = {"task_config": vars(TASK_CONFIG), "kind": "tfjob", "service_account": "trainer"}
    job = trained(tf_cluster, train, **options)
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    spec = worker["template"]["spec"]
    (container,) = spec["containers"]
    assert (worker["replicas"], worker["restartPolicy"]) == (2, "Never")
    assert container["image"] == IMAGE
    assert container["resources"] == RESOURCES
    assert container["env"][0] == SECRET
    assert container["volumeMounts"][-1] == MOUNT
    assert spec["volumes"][-1] == VOLUME
    assert spec["tolerations"][-1] == TOLERATION
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["affinity"] == AFFINITY
    assert spec["serviceAccountName"] == "trainer"
    assert job["spec"]["successPolicy"] == "AllWorkers"


@pytest.mark.parametrize("kind", ["trainjob", "tfjob"])
def test_a_task_without_settings_trains_on_the_runtimes_own(
    cluster: Cluster, tf_cluster: Cluster, train: Train, kind: str
) -> None:
    played = cluster if kind == "trainjob" else tf_cluster
    trained(played, train, task_config=vars(dsl.TaskConfig()), kind=kind)


def test_numbers_that_kfp_made_floats_of_are_integers_again(cluster: Cluster, train: Train) -> None:
    floats = {"tolerations": [TOLERATION | {"tolerationSeconds": 30.0}]}
    job = trained(cluster, train, task_config=floats)
    assert '"tolerationSeconds": 30}' in json.dumps(job)


def test_a_variable_of_the_group_cannot_be_set_by_the_task(cluster: Cluster, train: Train) -> None:
    config = {"env": [{"name": "OPTDUEL_PEERS", "value": "elsewhere:1"}]}
    entry, _ = trained(cluster, train, task_config=config)["spec"]["trainer"]["env"]
    assert "elsewhere" not in entry["value"]


def test_pods_carry_no_label_that_a_queue_or_argo_would_take_for_its_own(
    cluster: Cluster, train: Train, step_pod: str
) -> None:
    job = trained(cluster, train, queue="gpus")
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    on_pods = replicated["template"]["spec"]["template"]["metadata"]["labels"]
    on_job = job["metadata"]["labels"]
    assert on_job["pipeline/runid"] == on_pods["pipeline/runid"] == "run-1"
    assert on_job.keys() - on_pods.keys() == {"kueue.x-k8s.io/queue-name"}
    assert not any(name.startswith("workflows.argoproj.io/") for name in on_job)


def test_the_controllers_own_deadline_is_behind_the_launchers(cluster: Cluster, train: Train) -> None:
    job = trained(cluster, train, gang_seconds=30.5, run_seconds=100)
    assert job["spec"]["activeDeadlineSeconds"] == 131


def test_a_hundred_workers_are_told_of_each_other(cluster: Cluster, train: Train, tmp_path: Path) -> None:
    job = trained(cluster, train, its_task=make_task(tmp_path, workers=100))
    peers = job["spec"]["trainer"]["env"][0]["value"].split(",")
    assert len(set(peers)) == 100
    assert all(len(peer.partition(".")[0]) <= 63 - 6 for peer in peers)


@pytest.mark.parametrize(
    ("job", "run", "config", "words"),
    [
        ("{}", "run", {}, r"image: is required"),
        (job_json(kind="job"), "run", {}, r"kind = 'job': must be one of trainjob, tfjob"),
        (job_json(), "run 1", {}, r"run = 'run 1': must be the identifier of a run"),
        (job_json(), "run", {"init_containers": [{}]}, r"init_containers: no such field"),
    ],
)
def test_arguments_that_break_a_rule(job: str, run: str, config: Object, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        ClusterLauncher(job, run, "task", config)


def test_kfps_identifiers_are_labels() -> None:
    allowed = string.ascii_lowercase + string.digits + "-"
    identifier = "3f9c1d2a-7b4e-4c1f-9d55-0a1b2c3d4e5f"
    assert set(identifier) <= set(allowed)
    ClusterLauncher(job_json(), identifier, "task", vars(dsl.TaskConfig()))

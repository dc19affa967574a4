"""Deployments are authored like experiments: files, assignments, all mistakes at once."""

import json
from pathlib import Path

import pytest

from optduel.components.core import ExperimentError
from optduel.components.settings import Deployment, Resources
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_deployment


@pytest.mark.parametrize(("name", "kind"), [("pod", None), ("trainjob", "trainjob"), ("tfjob", "tfjob")])
def test_shipped_deployments_store_where_kubeflow_pipelines_does(name: str, kind: str | None) -> None:
    deployment = load_deployment(name, ["image=i:1"])
    assert (deployment.job.kind if deployment.job else None) == kind
    assert deployment.root.startswith("minio://mlpipeline/")
    (secret,) = deployment.secrets
    assert dict(secret.variables) == {
        "accesskey": "AWS_ACCESS_KEY_ID",
        "secretkey": "AWS_SECRET_ACCESS_KEY",
    }
    assert deployment.train.accelerators == 1
    assert deployment.retries.within_seconds == 604_800


def test_a_users_file_with_assignments(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("image: i:1\nroot: gs://b/o\ntrain: {cpu: 4, memory: 8Gi}\njob: {kind: trainjob}\n")
    deployment = load_deployment(str(path), ["train.accelerators=2", "job.queue=gpus", "image=i:2"])
    assert deployment.image == "i:2"
    assert deployment.train == Resources(cpu="4", memory="8Gi", accelerators=2)
    assert deployment.job is not None
    assert deployment.job.queue == "gpus"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("image: ''\ntrain: {cpu: lots, accelerators: -1}\njobs: {}\njob: {kind: pytorchjob}\n")
    with pytest.raises(ExperimentError) as raised:
        load_deployment(str(path))
    message = str(raised.value)
    for told in (
        "6 problems",
        "\nimage: '' is not the reference of an image",
        "\nroot: is required",
        "\ntrain.cpu = 'lots'",
        "\ntrain.accelerators = -1",
        "\njobs: no such field; did you mean 'job'?",
        "\njob.kind = 'pytorchjob': must be one of trainjob, tfjob",
    ):
        assert told in message


CORES = "must be cores or thousandths of one, such as 4, 0.5 or 500m"
BYTES = "must be bytes, or a whole number of Ki, Mi, Gi, Ti, M, G or T, such as 1536Mi"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.cpu=4Gi", f"train.cpu = '4Gi': {CORES}"),
        ("train.cpu=2k", f"train.cpu = '2k': {CORES}"),
        ("train.cpu=1.5m", f"train.cpu = '1.5m': {CORES}"),
        ("train.cpu=0", f"train.cpu = 0: {CORES}"),
        ("train.cpu=0.0", f"train.cpu = 0.0: {CORES}"),
        ("train.cpu=true", f"train.cpu = True: {CORES}"),
        ("train.memory=1.5Gi", f"train.memory = '1.5Gi': {BYTES}"),
        ("train.memory=4k", f"train.memory = '4k': {BYTES}"),
        ("train.memory=500m", f"train.memory = '500m': {BYTES}"),
        ("train.memory=0", f"train.memory = 0: {BYTES}"),
        ("train.memory=1.5", f"train.memory = 1.5: {BYTES}"),
    ],
)
def test_an_amount_is_one_that_kubeflow_pipelines_takes(assignment: str, message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        load_deployment("pod", ["image=i:1", assignment])
    assert str(raised.value) == f"pod: 1 problem\n{message}"


@pytest.mark.parametrize(
    ("assignment", "amount"),
    [
        ("cpu=2", "2"),
        ("cpu=2.5", "2.5"),
        ("cpu='0.5'", "0.5"),
        ("cpu=500m", "500m"),
        ("memory=1073741824", "1073741824"),
        ("memory=1536Mi", "1536Mi"),
        ("memory=16G", "16G"),
    ],
)
def test_an_amount_may_be_a_number_of_yaml(assignment: str, amount: str) -> None:
    train = load_deployment("pod", ["image=i:1", f"train.{assignment}"]).train
    assert getattr(train, assignment.partition("=")[0]) == amount


def test_a_variable_has_one_value() -> None:
    secrets = "secrets=[{name: s, variables: {key: MODE}}]"
    with pytest.raises(ExperimentError, match="environment, secrets: MODE set more than once; keep one"):
        load_deployment("pod", ["image=i:1", secrets, "environment={MODE: a}"])


@pytest.mark.parametrize(
    "root", ["data", "/data", "file:///data", "ftp://host/place", "gs://", "s3:///a", "gs://a b"]
)
def test_the_root_is_a_place_that_every_pod_reaches(root: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        load_deployment("pod", ["image=i:1", f"root={root!r}"])
    rule = "must be a URI that every pod reaches: gs://BUCKET/..., s3://BUCKET/... or minio://BUCKET/..."
    assert str(raised.value) == f"pod: 1 problem\nroot = {root!r}: {rule}"


@pytest.mark.parametrize("image", ["optduel", "registry:5000/optduel", "registry/optduel:latest"])
def test_an_image_names_a_version(image: str) -> None:
    """Kubeflow Pipelines takes the reference for the code's version when it looks for cached results."""
    with pytest.raises(ValueError, match="names no version"):
        Deployment(image=image, root="gs://b/o")
    assert Deployment(image="registry:5000/optduel@sha256:0", root="gs://b/o")


@pytest.mark.parametrize("image", ["a b", ":latest", "@sha256:0", "", "a\nb"])
def test_an_image_is_a_reference(image: str) -> None:
    with pytest.raises(ValueError, match="is not the reference of an image"):
        Deployment(image=image, root="gs://b/o")


@pytest.mark.parametrize(
    ("toleration", "operator"),
    [
        ("{key: dedicated}", "Exists"),
        ("{key: dedicated, value: training}", "Equal"),
        ("{key: dedicated, value: ''}", "Equal"),
        ("{key: dedicated, operator: Equal, value: training}", "Equal"),
        ("{key: dedicated, operator: Exists, value: ''}", "Exists"),
    ],
)
def test_a_toleration_with_a_value_compares_it(toleration: str, operator: str) -> None:
    """Kubernetes' own default is Equal, and it refuses Exists with a value."""
    (found,) = load_deployment("pod", ["image=i:1", f"tolerations=[{toleration}]"]).tolerations
    assert found.operator == operator


@pytest.mark.parametrize(
    ("toleration", "message"),
    [
        ("operator: Exists, value: a", "operator Exists compares no value; leave value out, or take Equal"),
        ("operator: Equal", "operator Equal compares a value; give it, or take Exists"),
    ],
)
def test_a_toleration_that_kubernetes_refuses_or_that_misses_its_value(toleration: str, message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        load_deployment("pod", ["image=i:1", f"tolerations=[{{key: dedicated, {toleration}}}]"])
    assert str(raised.value) == f"pod: 1 problem\ntolerations.0: {message}"


COMMON = {
    "prepare": {"cpu": "2", "memory": "4Gi", "accelerators": 0, "accelerator": "nvidia.com/gpu"},
    "train": {"cpu": "4", "memory": "16Gi", "accelerators": 1, "accelerator": "nvidia.com/gpu"},
    "evaluate": {"cpu": "2", "memory": "4Gi", "accelerators": 0, "accelerator": "nvidia.com/gpu"},
    "report": {"cpu": "1", "memory": "2Gi", "accelerators": 0, "accelerator": "nvidia.com/gpu"},
    "root": "minio://mlpipeline/optduel",
    "secrets": [
        {
            "name": "mlpipeline-minio-artifact",
            "variables": {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"},
        }
    ],
    "environment": {},
    "node_selector": {},
    "tolerations": [
        {"key": "nvidia.com/gpu", "operator": "Exists", "value": None, "effect": "NoSchedule"},
    ],
    "trials_at_once": 1,
    "cached": True,
    "retries": {"attempts": 2, "pause_seconds": 30, "within_seconds": 604800},
    "kept_seconds": 604800,
    "alerts": None,
    "prices": None,
}
JOB = {
    "runtime": "tensorflow-distributed",
    "queue": None,
    "queue_seconds": 86400,
    "gang_seconds": 1800,
    "run_seconds": 604800,
    "unfollowed_seconds": 600,
}


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("pod", None),
        ("trainjob", {"kind": "trainjob", "service_account": None} | JOB),
        ("tfjob", {"kind": "tfjob", "service_account": "optduel-worker"} | JOB),
    ],
)
def test_shipped_deployments_differ_in_their_jobs_only(name: str, job: object) -> None:
    fields = load_deployment(name, ["image=i:1"]).model_dump(mode="json")
    assert fields == COMMON | {"image": "i:1", "job": job}


def test_a_users_file_says_what_differs(tmp_path: Path) -> None:
    """Mappings are taken field by field, lists and everything else whole; a base may have a base."""
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases/gke.yaml").write_text(
        "extends: trainjob\nroot: gs://b/o\nsecrets: []\ntrain: {memory: 32Gi}\n"
        "environment: {A: '1', B: '2'}\n"
    )
    path = tmp_path / "mine.yaml"
    path.write_text("extends: bases/gke.yaml\nimage: i:1\njob: {queue: gpus}\nenvironment: {B: '3'}\n")
    deployment = load_deployment(str(path), ["train.accelerators=2"])
    assert deployment.root == "gs://b/o"
    assert deployment.secrets == ()
    assert deployment.train == Resources(cpu="4", memory="32Gi", accelerators=2)
    assert deployment.environment == {"A": "1", "B": "3"}
    assert deployment.job is not None
    assert (deployment.job.kind, deployment.job.queue) == ("trainjob", "gpus")
    assert deployment.job.gang_seconds == 1800


def test_a_field_can_be_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: trainjob\nimage: i:1\njob: null\n")
    assert load_deployment(str(path)) == load_deployment("pod", ["image=i:1"])


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("trainjobs", "deployment = trainjobs: no such deployment; did you mean 'trainjob'?"),
        ("absent.yaml", "absent.yaml: No such file or directory; check the path"),
        ("[pod]", "extends = ['pod']: must be the name or path of a deployment"),
        ("mine.yaml", "mine.yaml: builds on itself; break the circle"),
        ("list.yaml", "list.yaml = [1]: must hold the fields of a deployment"),
    ],
)
def test_a_base_that_cannot_be_one_is_told(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "list.yaml").write_text("[1]")
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {base}\nimage: i:1\n")
    with pytest.raises(ExperimentError) as raised:
        load_deployment(str(path))
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["pod", "trainjob", "tfjob"])
def test_what_is_shown_of_a_deployment_is_that_deployment(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it builds on, as one file that builds on nothing."""
    assert main(["show", "--deployment", name]) == 0
    path = tmp_path / "whole.yaml"
    path.write_text(capsys.readouterr().out)
    assert "extends" not in path.read_text()
    assert load_deployment(str(path), ["image=i:1"]) == load_deployment(name, ["image=i:1"])
    assert main(["show", "--deployment", str(path), "--json"]) == 0
    assert "image" not in json.loads(capsys.readouterr().out)


def test_what_is_shown_of_a_users_deployment_has_its_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: trainjob\nimage: i:1\n")
    assert main(["show", "--deployment", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["image"], shown["job"]["kind"]) == ("i:1", "trainjob")
    assert main(["show", "--deployment", "trainjobs"]) == 2

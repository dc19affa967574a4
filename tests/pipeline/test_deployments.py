"""Deployments are authored like experiments: files, assignments, all mistakes at once."""

from pathlib import Path

import pytest

from optduel.components.core import ExperimentError
from optduel.components.settings import Deployment, Resources
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
    secrets = "secrets=[{name: s, variables: {key: TOKEN}}]"
    with pytest.raises(ExperimentError, match="environment, secrets: TOKEN set more than once; keep one"):
        load_deployment("pod", ["image=i:1", secrets, "environment={TOKEN: a}"])


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

"""Deployments are authored like experiments: files, assignments, all mistakes at once."""

from pathlib import Path

import pytest

from components.core.deployment import Deployment, Resources
from components.core.errors import ExperimentError
from pipeline.shipped import load_deployment


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
        "\nimage: '' is no image's reference",
        "\nroot: is required",
        "\ntrain.cpu = 'lots'",
        "\ntrain.accelerators = -1",
        "\njobs: no such field; did you mean 'job'?",
        "\njob.kind = 'pytorchjob': must be one of trainjob, tfjob",
    ):
        assert told in message


def test_a_variable_has_one_value() -> None:
    secrets = "secrets=[{name: s, variables: {key: TOKEN}}]"
    with pytest.raises(ExperimentError, match="environment, secrets: TOKEN set more than once; keep one"):
        load_deployment("pod", ["image=i:1", secrets, "environment={TOKEN: a}"])


@pytest.mark.parametrize("image", ["optduel", "registry:5000/optduel", "registry/optduel:latest"])
def test_an_image_names_a_version(image: str) -> None:
    """Kubeflow Pipelines takes the reference for the code's version when it looks for cached results."""
    with pytest.raises(ValueError, match="names no version"):
        Deployment(image=image, root="gs://b/o")
    assert Deployment(image="registry:5000/optduel@sha256:0", root="gs://b/o")


@pytest.mark.parametrize("image", ["a b", ":latest", "@sha256:0", "", "a\nb"])
def test_an_image_is_a_reference(image: str) -> None:
    with pytest.raises(ValueError, match="is no image's reference"):
        Deployment(image=image, root="gs://b/o")

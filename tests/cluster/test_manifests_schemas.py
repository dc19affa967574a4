"""The manifests are what the APIs of Kubernetes and Kubeflow Trainer take, to the last field."""

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubeflow_trainer_api import models

from tests.cluster.kustomize import (
    MANIFESTS,
    OVERLAYS,
    Object,
    find,
    needs_kubectl,
    overlay,
    render_with,
    runtime_job,
)

pytestmark = needs_kubectl

VERSIONS = ["1.31", "1.34", "1.37"]
"""The oldest that Kubeflow Trainer 2.3 wants, a middle one, and the newest whose schemas are at hand."""

COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir() if path.name != "retry-policy")
UNPUBLISHED = {"ClusterTrainingRuntime", "LocalQueue"}
"""Kinds that are not Kubernetes' own."""


def as_job(objects: list[Object]) -> Object:
    """The runtime's job as Kubernetes will see it, when JobSet has made it for two workers."""
    spec = {**runtime_job(objects), "parallelism": 2, "completions": 2}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec}


def round_trip(objects: list[Object]) -> tuple[Object, Object]:
    """The runtime, and what remains of it after Trainer's own model has read it."""
    runtime = find(objects, "ClusterTrainingRuntime", "tensorflow-distributed")
    model = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(copy.deepcopy(runtime))
    assert model is not None
    return runtime, model.to_dict()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_is_valid(name: str, version: str) -> None:
    objects = overlay(name)
    for one in [*objects, as_job(objects)]:
        if one["kind"] not in UNPUBLISHED:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_is_valid_over_the_base(name: str, tmp_path: Path) -> None:
    base = [MANIFESTS / "base" / "runtime", MANIFESTS / "base" / "namespace"]
    objects = render_with(tmp_path, base, [name])
    for one in [*objects, as_job(objects)]:
        if one["kind"] not in UNPUBLISHED:
            kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_trainer_knows_every_field_of_the_runtime(name: str) -> None:
    runtime, known = round_trip(overlay(name))
    assert known == runtime


def misspell(spec: Object) -> Any:
    """A field that no schema knows."""
    return spec.update(backoffLimits=spec.pop("backoffLimit"))


def test_unknown_field_of_the_job_is_noticed() -> None:
    objects = overlay("kind")
    misspell(runtime_job(objects))
    with pytest.raises(kubernetes_validate.ValidationError, match="backoffLimits"):
        kubernetes_validate.validate(as_job(objects), VERSIONS[-1], strict=True)
    runtime, known = round_trip(objects)
    assert known != runtime


def test_unknown_field_of_the_jobset_is_noticed() -> None:
    objects = overlay("kind")
    jobset = find(objects, "ClusterTrainingRuntime", "tensorflow-distributed")["spec"]["template"]["spec"]
    jobset["failurePolicy"]["maxRestart"] = 3
    runtime, known = round_trip(objects)
    assert known != runtime


def test_wrong_type_is_noticed() -> None:
    objects = overlay("kind")
    find(objects, "Role", "optduel-launcher")["rules"][0]["verbs"] = "create"
    with pytest.raises(kubernetes_validate.ValidationError, match="create"):
        kubernetes_validate.validate(find(objects, "Role", "optduel-launcher"), VERSIONS[-1], strict=True)

"""The Role that our manifests give the launcher, as the permissions of the test's API server."""

from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kubernetes_reviews import Permission

MANIFESTS = Path(__file__).parents[2] / "manifests"
ROLE = "optduel-launcher"

FOR_EVERYONE: set[Permission] = {("get", "trainer.kubeflow.org", "clustertrainingruntimes", "")}
"""Trainer lets every authenticated account read the runtimes of the whole cluster."""


def launcher_permissions() -> set[Permission]:
    """What the Role grants, with the component for TFJobs."""
    (role,) = (
        found
        for path in sorted((MANIFESTS / "base").rglob("*.yaml"))
        for found in yaml.load_all(path.read_text(), yaml.CSafeLoader)
        if found and found["kind"] == "Role" and found["metadata"]["name"] == ROLE
    )
    component = yaml.safe_load((MANIFESTS / "components/tfjob/kustomization.yaml").read_text())
    patched = [
        change["value"]
        for patch in component["patches"]
        if patch["target"] == {"kind": "Role", "name": ROLE}
        for change in yaml.safe_load(patch["patch"])
        if change["op"] == "add"
    ]
    return {permission for rule in [*role["rules"], *patched] for permission in _permissions(rule)}


def _permissions(rule: dict[str, Any]) -> set[Permission]:
    return {
        (verb, group, resource.partition("/")[0], resource.partition("/")[2])
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

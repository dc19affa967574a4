"""What this project asks of its manifests, beyond what Kubernetes would accept."""

import re
from collections.abc import Iterator, Sequence

from tests.cluster.kustomize import Object, pod_templates
from tests.cluster.pod_security import containers, restricted_violations

_PINNED = re.compile(r"[^\s@]+(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]{0,127})")
_SECRET_FIELDS = {"data", "stringData"}
_SECRET_NAMES = re.compile(
    r"(?i)(password|passwd|token|secret_?key|access_?key(_id)?|api_?key|private_?key)$"
)


def violations(objects: Sequence[Object]) -> list[str]:
    """Everything that breaks a rule, one phrase each."""
    found = []
    for one in objects:
        found += [f"{one['kind']} {one['metadata']['name']}: {problem}" for problem in _of_object(one)]
    return found


def _of_object(one: Object) -> Iterator[str]:
    for template in pod_templates(one):
        yield from restricted_violations(template)
        yield from _of_template(template)
    yield from _of_rules(one)
    yield from _of_secrets(one)


def _of_template(template: Object) -> Iterator[str]:
    if template["spec"].get("automountServiceAccountToken") is not False:
        yield "the service account's token is mounted"
    for volume in template["spec"].get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']}: no size limit"
    for container in containers(template):
        name = container["name"]
        if not _PINNED.fullmatch(container["image"]):
            yield f"{name}: image {container['image']} has no tag, or one that moves"
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{name}: the root file system is writable"
        requests = container.get("resources", {}).get("requests", {})
        yield from (f"{name}: requests no {what}" for what in ("cpu", "memory") if what not in requests)
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{name}: memory has no limit"


def _of_rules(one: Object) -> Iterator[str]:
    for rule in one.get("rules", []) if one["kind"].endswith("Role") else []:
        # A runtime is nobody's own; everything else that we grant has a namespace.
        is_narrow = rule["verbs"] == ["get"] and rule.get("resourceNames")
        if one["kind"] == "ClusterRole" and not is_narrow:
            yield "grants more in every namespace than to get what it names"
        for field in ("apiGroups", "resources", "verbs"):
            if any("*" in value for value in rule[field]):
                yield f"wildcard in {field}"


def _of_secrets(one: Object) -> Iterator[str]:
    if one["kind"] == "Secret" and _SECRET_FIELDS & one.keys():
        yield "holds a secret's value"
    for template in pod_templates(one):
        for container in containers(template):
            for entry in container.get("env", []):
                if _SECRET_NAMES.search(entry["name"]) and "value" in entry:
                    yield f"{container['name']}: {entry['name']} holds a secret's value"

"""What the test's Kubernetes API streams, piece by piece: changes of objects, and logs."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.cluster.kubernetes_objects import ApiError, Object, Resource

if TYPE_CHECKING:
    from tests.cluster.kubernetes_requests import Request
    from tests.cluster.kubernetes_server import KubernetesServer

_LONGEST_WATCH_SECONDS = 1800


def watch(server: "KubernetesServer", resource: Resource, request: "Request") -> Iterator[str]:
    """A line for each change; without a version in the request first all objects that there are."""
    query = request.query
    selectors = query.get("labelSelector", ""), query.get("fieldSelector", "")
    version = int(query.get("resourceVersion") or 0)
    found: list[Object] = []
    with server.objects.changed:
        if not version:
            version = server.objects.version
            found = server.objects.list(resource, request.namespace, *selectors)
    for one in found:
        yield _event("ADDED", one)
    seconds = float(query.get("timeoutSeconds", _LONGEST_WATCH_SECONDS))
    try:
        for change in server.objects.changes(
            resource, request.namespace, version, selectors, seconds, lambda: server.is_away
        ):
            yield _event(change.kind, change.object)
    except ApiError as error:
        yield _event("ERROR", error.status())


def log(server: "KubernetesServer", resource: Resource, request: "Request") -> Iterator[str]:
    """A pod's lines, with "follow" until it ends; ApiError 400 where its container has not started."""
    query = request.query
    if not _has_started(server.objects.get(resource, request.namespace, request.name)):
        where = f'container "{query.get("container", "")}" in pod "{request.name}"'
        raise ApiError(400, "BadRequest", f"{where} is waiting to start: ContainerCreating")
    return _lines(server, resource, request)


def _lines(server: "KubernetesServer", resource: Resource, request: "Request") -> Iterator[str]:
    query = request.query
    since = query.get("sinceTime", "")[: len("2026-01-01T00:00:00")]
    sent = 0
    while not server.is_away:
        pod = server.objects.list(resource, request.namespace, fields=f"metadata.name={request.name}")
        lines = server.log_lines(request.name)
        for line in lines[sent:]:
            if line[: len(since)] >= since:
                yield line if query.get("timestamps") == "true" else line.partition(" ")[2]
        sent = len(lines)
        if not pod or _has_ended(pod[0]) or query.get("follow") != "true":
            return
        with server.objects.changed:
            server.objects.changed.wait(0.5)


def _event(kind: str, subject: Object) -> str:
    return json.dumps({"type": kind, "object": subject}) + "\n"


def _statuses(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses", []))


def _has_started(pod: Object) -> bool:
    return any("waiting" not in status.get("state", {"waiting": {}}) for status in _statuses(pod))


def _has_ended(pod: Object) -> bool:
    statuses = _statuses(pod)
    return bool(statuses) and all("terminated" in status.get("state", {}) for status in statuses)

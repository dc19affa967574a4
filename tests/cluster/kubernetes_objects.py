"""What a Kubernetes API keeps: objects with versions, their history for watches, and their owners."""

import copy
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

_HISTORY = 10_000


@dataclass(frozen=True)
class Resource:
    """A kind of objects: `plural` is what URLs and Roles call it."""

    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True)
class Change:
    """An entry of the history; `kind` is ADDED, MODIFIED or DELETED."""

    version: int
    kind: str
    resource: Resource
    object: Object


class ApiError(Exception):
    """An answer other than the one that was asked for, as Kubernetes words it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def status(self) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
        }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ObjectStore:
    """Objects by resource, namespace and name; `changed` is notified of every change."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    version: int = 1
    oldest: int = 0
    _objects: dict[tuple[Resource, str, str], Object] = field(default_factory=dict)
    _history: list[Change] = field(default_factory=list)

    def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        with self.changed:
            metadata = copy.deepcopy(body.get("metadata", {}))
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            key = (resource, namespace, metadata["name"])
            if key in self._objects:
                raise ApiError(
                    409, "AlreadyExists", f'{_title(resource)} "{metadata["name"]}" already exists'
                )
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            if resource.is_namespaced:
                metadata["namespace"] = namespace
            created = {"apiVersion": resource.api_version, "kind": resource.kind} | copy.deepcopy(body)
            return self._keep("ADDED", key, created | {"metadata": metadata})

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        with self.changed:
            if (key := (resource, namespace, name)) not in self._objects:
                raise ApiError(404, "NotFound", f'{_title(resource)} "{name}" not found')
            return copy.deepcopy(self._objects[key])

    def list(self, resource: Resource, namespace: str, labels: str = "", fields: str = "") -> list[Object]:
        with self.changed:
            return [
                copy.deepcopy(kept)
                for (its, where, _), kept in self._objects.items()
                if its == resource and namespace in ("", where) and selects(labels, fields, kept)
            ]

    def change(
        self, resource: Resource, namespace: str, name: str, function: Callable[[Object], None]
    ) -> Object:
        """Applies `function` to a copy, which takes the object's place."""
        with self.changed:
            changed = self.get(resource, namespace, name)
            function(changed)
            return self._keep("MODIFIED", (resource, namespace, name), changed)

    def delete(self, resource: Resource, namespace: str, name: str, *, orphan: bool = False) -> Object:
        """Removes an object and, unless they shall become orphans, whatever it owns."""
        with self.changed:
            self.get(resource, namespace, name)
            removed = self._objects.pop((resource, namespace, name))
            self._record("DELETED", resource, removed)
            uid = removed["metadata"]["uid"]
            for owned_resource, where, owned in list(self._objects):
                owners = self._objects.get((owned_resource, where, owned), {}).get("metadata", {})
                uids = [owner["uid"] for owner in owners.get("ownerReferences", [])]
                if not orphan and uid in uids:
                    self.delete(owned_resource, where, owned)
            return removed

    def changes(
        self,
        resource: Resource,
        namespace: str,
        version: int,
        selectors: tuple[str, str],
        seconds: float,
        is_over: Callable[[], bool],
    ) -> Iterator[Change]:
        """Changes after `version`, as they happen, for so long; ApiError 410 where they are forgotten."""
        end = datetime.now(UTC).timestamp() + seconds
        while not is_over():
            with self.changed:
                if version < self.oldest:
                    raise ApiError(410, "Expired", f"too old resource version: {version} ({self.oldest})")
                found = [change for change in self._history if change.version > version]
                left = end - datetime.now(UTC).timestamp()
                if not found:
                    if left <= 0:
                        return
                    self.changed.wait(min(left, 0.5))
                    continue
                version = found[-1].version
            for change in found:
                where = change.object["metadata"].get("namespace", "")
                is_here = change.resource == resource and namespace in ("", where)
                if is_here and selects(*selectors, change.object):
                    yield change

    def created(self, plural: str) -> "list[Change]":
        """What was created since the history was last forgotten."""
        with self.changed:
            found = [change for change in self._history if change.resource.plural == plural]
            return [change for change in found if change.kind == "ADDED"]

    def forget(self) -> None:
        """Forgets the history: whoever watches from an older version is answered 410 Gone."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self._history.clear()
            self.changed.notify_all()

    def _keep(self, kind: str, key: tuple[Resource, str, str], kept: Object) -> Object:
        self._objects[key] = kept
        self._record(kind, key[0], kept)
        return copy.deepcopy(kept)

    def _record(self, kind: str, resource: Resource, kept: Object) -> None:
        self.version += 1
        kept["metadata"]["resourceVersion"] = str(self.version)
        self._history.append(Change(self.version, kind, resource, copy.deepcopy(kept)))
        del self._history[:-_HISTORY]
        self.changed.notify_all()


def selects(labels: str, fields: str, candidate: Object) -> bool:
    """Whether label and field selectors, as they stand in a URL, match an object."""
    its_labels = candidate["metadata"].get("labels") or {}
    return all(_matches(term, its_labels.get) for term in _terms(labels)) and all(
        _matches(term, lambda path: _at(candidate, path)) for term in _terms(fields)
    )


def _terms(selector: str) -> list[str]:
    return [term for term in re.split(r",(?![^(]*\))", selector) if term]


def _matches(term: str, value_of: Callable[[str], Any]) -> bool:
    if among := re.fullmatch(r"(\S+) (not)?in \((.*)\)", term):
        values = [value.strip() for value in among[3].split(",")]
        return (value_of(among[1]) in values) is not bool(among[2])
    if different := re.fullmatch(r"([^=!]+)!=(.*)", term):
        return bool(value_of(different[1]) != different[2])
    if same := re.fullmatch(r"([^=!]+)==?(.*)", term):
        return bool(value_of(same[1]) == same[2])
    return (value_of(term.lstrip("!")) is None) is term.startswith("!")


def _at(candidate: Any, path: str) -> Any:
    for part in path.split("."):
        candidate = candidate.get(part) if isinstance(candidate, dict) else None
    return candidate


def _title(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural

"""How the test's Kubernetes API answers one connection."""

import contextlib
import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.cluster.kubernetes_objects import ApiError, Object, Resource
from tests.cluster.kubernetes_reviews import REVIEWS, Permission, acting_user, may, reviewed
from tests.cluster.kubernetes_schemas import review
from tests.cluster.kubernetes_streams import log, watch

if TYPE_CHECKING:
    from tests.cluster.kubernetes_server import KubernetesServer


@dataclass(frozen=True)
class Request:
    """A request that was made, in the words of a Role."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    query: dict[str, str]

    @property
    def permission(self) -> Permission:
        return self.verb, self.group, self.resource, self.subresource


class Handler(BaseHTTPRequestHandler):
    """Finds out what a request is about and answers it; streams are chunked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def kubernetes(self) -> "KubernetesServer":
        found: KubernetesServer = self.server.kubernetes  # type: ignore[attr-defined]
        return found

    def handle(self) -> None:
        with (
            self.kubernetes.carrying(self.connection, "idle"),
            contextlib.suppress(ConnectionError, TimeoutError),
        ):
            super().handle()

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_POST(self) -> None:
        self._answer(self._create)

    def do_PUT(self) -> None:
        self._answer(self._replace)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def log_message(self, *_: Any) -> None:
        """Stays silent."""

    # --- what is asked --------------------------------------------------------------------------

    def _answer(self, operation: Callable[[Resource, Request, Object], None]) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        try:
            token = self.kubernetes.token
            if token and self.headers.get("Authorization", "").lower() != f"bearer {token}".lower():
                raise ApiError(401, "Unauthorized", "Unauthorized")
            address = urllib.parse.urlsplit(self.path)
            if (found := self._discover(address.path)) is not None:
                self._send(200, found)
                return
            resource, request = self._parse(address.path, dict(urllib.parse.parse_qsl(address.query)))
            self.kubernetes.requests.append(request)
            if fault := self.kubernetes.fault(request):
                raise fault
            user = acting_user(self.kubernetes, self.headers.get("Impersonate-User"))
            if resource in REVIEWS:
                self._send(201, reviewed(self.kubernetes, resource, user, body))
                return
            if not may(self.kubernetes, user, request.permission, request.namespace):
                raise forbidden(request, user)
            operation(resource, request, body)
        except ApiError as error:
            self._send(error.code, error.status())

    def _discover(self, path: str) -> Object | None:
        resources = self.kubernetes.resources
        parts = path.strip("/").split("/")
        if parts == ["version"]:
            major, minor = self.kubernetes.version.removeprefix("v").split(".")[:2]
            return {"major": major, "minor": minor, "gitVersion": self.kubernetes.version}
        if parts == ["apis"]:
            groups: dict[str, Object] = {}
            for one in resources:
                version = {"groupVersion": one.api_version, "version": one.version}
                if one.group:
                    groups[one.group] = {
                        "name": one.group,
                        "versions": [version],
                        "preferredVersion": version,
                    }
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups.values())}
        version = "/".join(parts[1:])
        if parts[0] in ("api", "apis") and (
            found := [one for one in resources if one.api_version == version]
        ):
            listed = [
                {"name": one.plural, "kind": one.kind, "namespaced": one.is_namespaced} for one in found
            ]
            return {"kind": "APIResourceList", "groupVersion": version, "resources": listed}
        return None

    def _parse(self, path: str, query: dict[str, str]) -> tuple[Resource, Request]:
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        group, version, rest = (
            ("", parts[1:2], parts[2:]) if parts[0] == "api" else (parts[1], parts[2:3], parts[3:])
        )
        namespace = ""
        if len(rest) >= 3 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, "", "", "")[:3]
        for resource in (*self.kubernetes.resources, *REVIEWS):
            if (resource.group, [resource.version], resource.plural) == (group, version, plural):
                break
        else:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        is_watch = query.get("watch") in ("true", "1")
        several = {"GET": "watch" if is_watch else "list", "POST": "create", "DELETE": "deletecollection"}
        single = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        verb = (single if name else several)[self.command]
        return resource, Request(verb, group, plural, subresource, namespace, name, query)

    # --- answers --------------------------------------------------------------------------------

    def _read(self, resource: Resource, request: Request, _body: Object) -> None:
        query = request.query
        objects = self.kubernetes.objects
        if request.subresource == "log":
            self._stream("log", "text/plain", log(self.kubernetes, resource, request))
        elif request.verb == "get":
            self._send(200, objects.get(resource, request.namespace, request.name))
        elif request.verb == "watch":
            self._stream("watch", "application/json", watch(self.kubernetes, resource, request))
        else:
            selectors = query.get("labelSelector", ""), query.get("fieldSelector", "")
            with objects.changed:
                items = objects.list(resource, request.namespace, *selectors)
                metadata = {"resourceVersion": str(objects.version)}
            begin, limit = int(query.get("continue", "0")), int(query.get("limit", "0"))
            if limit and len(items) > begin + limit:
                metadata["continue"] = str(begin + limit)
            items = items[begin : begin + limit] if limit else items
            kind = {"apiVersion": resource.api_version, "kind": f"{resource.kind}List"}
            self._send(200, kind | {"metadata": metadata, "items": items})

    def _create(self, resource: Resource, request: Request, body: Object) -> None:
        review(self.kubernetes, resource, body, request.query)
        for reviewer in self.kubernetes.reviewers:
            reviewer(resource, body, request.query)
        if request.query.get("dryRun") == "All":
            with self.kubernetes.objects.changed:
                existing = [
                    one["metadata"]["name"]
                    for one in self.kubernetes.objects.list(resource, request.namespace)
                ]
            if (name := body["metadata"].get("name")) in existing:
                raise ApiError(
                    409, "AlreadyExists", f'{resource.plural}.{resource.group} "{name}" already exists'
                )
            self._send(201, body)
        else:
            created = self.kubernetes.objects.create(resource, request.namespace, body)
            if self.kubernetes.loses_next_creation:
                self.kubernetes.loses_next_creation = False
                raise ApiError(503, "ServiceUnavailable", "etcdserver: request timed out")
            self._send(201, created)

    def _replace(self, resource: Resource, request: Request, body: Object) -> None:
        def replace(kept: Object) -> None:
            told = body.get("metadata", {}).get("resourceVersion")
            if told and told != kept["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "the object has been modified; please apply your changes")
            metadata = kept["metadata"] | {
                key: body["metadata"][key] for key in ("labels", "annotations") if key in body["metadata"]
            }
            kept.update(body | {"metadata": metadata})

        self._send(200, self.kubernetes.objects.change(resource, request.namespace, request.name, replace))

    def _patch(self, resource: Resource, request: Request, body: Object) -> None:
        if "merge" not in self.headers.get("Content-Type", ""):
            raise ApiError(415, "UnsupportedMediaType", "this double knows merge patches only")
        changed = self.kubernetes.objects.change(
            resource, request.namespace, request.name, lambda kept: _merge(kept, body)
        )
        self._send(200, changed)

    def _delete(self, resource: Resource, request: Request, body: Object) -> None:
        objects = self.kubernetes.objects
        kept = objects.get(resource, request.namespace, request.name)
        expected = body.get("preconditions", {}).get("uid", kept["metadata"]["uid"])
        if expected != kept["metadata"]["uid"]:
            raise ApiError(409, "Conflict", f"Precondition failed: UID in precondition: {expected}")
        told = body.get("propagationPolicy") or request.query.get("propagationPolicy")
        objects.delete(resource, request.namespace, request.name, orphan=told == "Orphan")
        self._send(200, {"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}})

    def _stream(self, kind: str, content: str, pieces: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.kubernetes.carrying(self.connection, kind):
            for piece in pieces:
                data = piece.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _send(self, code: int, content: Object) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def forbidden(request: Request, user: str) -> ApiError:
    """What RBAC answers to a request that it does not allow."""
    what = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
    title = f"{request.resource}.{request.group}" if request.group else request.resource
    return ApiError(
        403,
        "Forbidden",
        f'{title} is forbidden: User "{user}" cannot {request.verb} resource "{what}" in API group '
        f'"{request.group}" in the namespace "{request.namespace}"',
    )


def _merge(kept: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            kept.pop(key, None)
        elif isinstance(value, dict) and isinstance(kept.get(key), dict):
            _merge(kept[key], value)
        else:
            kept[key] = value

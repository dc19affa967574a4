"""A Kubernetes API server for tests: HTTP on loopback, objects in memory, faults on demand.

It keeps what it is given, streams changes and logs, and tells users what they may do. Nothing schedules or
runs pods: a test, or `tests.cluster.controllers`, changes objects as the cluster's controllers would.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.kubernetes_objects import ApiError, Object, ObjectStore, Resource
from tests.cluster.kubernetes_requests import Handler, Request, forbidden
from tests.cluster.kubernetes_reviews import Permission

RESOURCES = (
    Resource("", "v1", "pods", "Pod"),
    Resource("", "v1", "events", "Event"),
    Resource("", "v1", "services", "Service"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("", "v1", "nodes", "Node", is_namespaced=False),
    Resource("", "v1", "namespaces", "Namespace", is_namespaced=False),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    *(
        Resource("admissionregistration.k8s.io", "v1", f"{kind.lower()}s", kind, is_namespaced=False)
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    ),
    Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet"),
    Resource("argoproj.io", "v1alpha1", "workflows", "Workflow"),
    Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"),
    Resource("trainer.kubeflow.org", "v1alpha1", "trainingruntimes", "TrainingRuntime"),
    Resource("trainer.kubeflow.org", "v1alpha1", "clustertrainingruntimes", "ClusterTrainingRuntime", False),
    Resource("kubeflow.org", "v1", "tfjobs", "TFJob"),
    Resource("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue"),
    Resource("kueue.x-k8s.io", "v1beta1", "clusterqueues", "ClusterQueue", False),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        is_namespaced=False,
    ),
)


@dataclass
class Fault:
    """An answer in place of the real one, `times` times; a `resource` or `verb` that is empty means any."""

    error: ApiError
    times: int
    verb: str = ""
    resource: str = ""


@dataclass
class KubernetesServer:
    """Runs while `with` lasts.

    Attributes:
        objects: what is kept; tests read and change it.
        requests: all that were made.
        denied: permissions that the caller lacks, "impersonate" among them: such requests are answered 403.
        granted: the only permissions that the caller has; None for all but the denied ones.
        user: the caller.
        accounts: what other users may do, each service account in its own namespace.
        token: when set, the only bearer token that is accepted.
        version: what /version tells.
        resources: what is installed.
        missing_fields: that this server's version of a kind does not have, by kind.
        loses_next_creation: the next object is created, and the answer is 503 all the same.
        reviewers: of every object to be created, in a dry run too; what one raises is the answer.
    """

    resources: tuple[Resource, ...] = RESOURCES
    objects: ObjectStore = field(default_factory=ObjectStore)
    requests: list[Request] = field(default_factory=list)
    denied: set[Permission] = field(default_factory=set)
    granted: set[Permission] | None = None
    user: str = "system:serviceaccount:team:tester"
    accounts: dict[str, set[Permission]] = field(default_factory=dict)
    token: str = ""
    version: str = "v1.34.1"
    reviewers: list[Callable[[Resource, Object, dict[str, str]], None]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    missing_fields: dict[str, set[str]] = field(default_factory=dict)
    loses_next_creation: bool = False
    _refuses_until: float = 0.0
    _logs: dict[str, list[str]] = field(default_factory=dict)
    _connections: dict[socket.socket, str] = field(default_factory=dict)

    def __enter__(self) -> "KubernetesServer":
        # Holds the port while the server is away, so that connections are refused and no one else gets it.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port: int = self._holder.getsockname()[1]
        self._http: ThreadingHTTPServer | None = None
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()
        self._holder.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write_kubeconfig(self, path: Path, namespace: str = "team", token: str = "secret") -> Path:
        """Writes a file for KUBECONFIG that leads here."""
        context = {"cluster": "double", "user": "double", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "double", "cluster": {"server": self.url}}],
            "users": [{"name": "double", "user": {"token": token}}],
            "contexts": [{"name": "double", "context": context}],
            "current-context": "double",
        }
        path.write_text(json.dumps(config))
        return path

    # --- objects --------------------------------------------------------------------------------

    def resource(self, plural: str) -> Resource:
        """The installed resource of this name."""
        return next(resource for resource in self.resources if resource.plural == plural)

    def add(self, plural: str, body: Object, namespace: str = "team") -> Object:
        """Keeps an object that nobody asked for by HTTP."""
        resource = self.resource(plural)
        return self.objects.create(resource, namespace if resource.is_namespaced else "", body)

    def find(self, plural: str, labels: str = "", namespace: str = "team") -> list[Object]:
        """The objects that are there."""
        resource = self.resource(plural)
        return self.objects.list(resource, namespace if resource.is_namespaced else "", labels)

    def change(
        self, plural: str, name: str, function: Callable[[Object], None], namespace: str = "team"
    ) -> Object:
        """Changes an object in place."""
        resource = self.resource(plural)
        return self.objects.change(resource, namespace if resource.is_namespaced else "", name, function)

    def remove(self, plural: str, name: str, namespace: str = "team") -> None:
        """Deletes an object and what it owns."""
        resource = self.resource(plural)
        self.objects.delete(resource, namespace if resource.is_namespaced else "", name)

    def uninstall(self, group: str) -> None:
        """The API group is not known any more."""
        self.resources = tuple(resource for resource in self.resources if resource.group != group)

    # --- logs -----------------------------------------------------------------------------------

    def log(self, pod: str, line: str) -> None:
        """A line that the pod's container prints."""
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        with self.objects.changed:
            self._logs.setdefault(pod, []).append(f"{stamp}.{nanoseconds:09d}Z {line}\n")
            self.objects.changed.notify_all()

    def log_lines(self, pod: str) -> list[str]:
        """What the pod has printed, each line with its time."""
        with self.objects.changed:
            return list(self._logs.get(pod, []))

    # --- faults ---------------------------------------------------------------------------------

    def go_away(self) -> None:
        """Refuses connections and breaks those that there are."""
        if self._http:
            http, self._http = self._http, None
            http.shutdown()
            http.server_close()
        self.cut()

    def come_back(self, refusing_seconds: float = 0.0) -> None:
        """Answers again, at the same address.

        Args:
            refusing_seconds: nobody has any rights for so long: a real server has yet to read the Roles.
        """
        self._refuses_until = time.monotonic() + refusing_seconds
        self._http = _Http(("127.0.0.1", self.port), self)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def is_away(self) -> bool:
        return self._http is None

    def cut(self, kind: str = "") -> int:
        """Breaks connections, idle ones included; only those that carry a "watch" or a "log" when named."""
        found = [connection for connection, its in list(self._connections.items()) if kind in ("", its)]
        for connection in found:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self.objects.changed:
            self.objects.changed.notify_all()
        return len(found)

    def fail(self, error: ApiError, times: int = 1, verb: str = "", resource: str = "") -> None:
        """Answers the next matching requests with this error."""
        self.faults.append(Fault(error, times, verb, resource))

    def reject(self, plural: str, message: str, code: int = 403, reason: str = "Forbidden") -> None:
        """An admission webhook that refuses every new object of the kind."""

        def review(resource: Resource, _body: Object, _query: dict[str, str]) -> None:
            if resource.plural == plural:
                told = f'admission webhook "validate.{plural}.example.com" denied the request: {message}'
                raise ApiError(code, reason, told)

        self.reviewers.append(review)

    # --- for the handler ------------------------------------------------------------------------

    def allows(self, permission: Permission) -> bool:
        """Whether the caller may do this."""
        return permission not in self.denied and (self.granted is None or permission in self.granted)

    def fault(self, request: Request) -> ApiError | None:
        """The error that this request is answered with, if any."""
        if time.monotonic() < self._refuses_until:
            return forbidden(request, self.user)
        with self.objects.changed:
            for fault in self.faults:
                if (
                    fault.times
                    and fault.verb in ("", request.verb)
                    and fault.resource in ("", request.resource)
                ):
                    fault.times -= 1
                    return fault.error
        return None

    @contextlib.contextmanager
    def carrying(self, connection: socket.socket, kind: str) -> Iterator[None]:
        """Marks a connection as one that carries a stream of this kind."""
        before = self._connections.get(connection)
        self._connections[connection] = kind
        try:
            yield
        finally:
            if before is None:
                del self._connections[connection]
            else:
                self._connections[connection] = before


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_port = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], server: KubernetesServer) -> None:
        self.kubernetes = server
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is what a test asked for."""

"""The Kubernetes API: JSON objects of any kind, tried again in bounded time."""

import contextlib
import itertools
import json
import os
import random
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)
from kubernetes.utils.quantity import parse_quantity as parse_quantity  # an amount, as a number

from optduel.components.core import ClusterError, SetupError, StoppedError, StopRequest
from optduel.components.decoding import parse_object
from optduel.components.kubernetes.timing import Timing

JsonObject = dict[str, Any]
"""An object as Kubernetes writes it."""

_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_PAGE = "500"
"""Objects in one answer of a list, as kubectl has it."""

_TRANSIENT = {408, 429, 500, 502, 503, 504}
_REFUSED = {401, 403}
_CONNECT_SECONDS = 5.0
_OBJECT = re.compile(r"^(/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/[^/]+)?/[^/]+)/[^/]+")
"""A path down to an object's name."""

_CONNECTION = re.compile(r"^(?:<.*>|\w+\([^)]*\)): ")


@dataclass(frozen=True)
class Resource:
    """A kind of objects: `plural` is what URLs and Roles call it."""

    group: str
    version: str
    plural: str
    is_namespaced: bool = True


PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
WORKFLOWS = Resource("argoproj.io", "v1alpha1", "workflows")


class ApiFailure(Exception):
    """The API server's answer, one that another attempt would not change.

    Attributes:
        code: of HTTP.
        message: in its own words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (HTTP {code})")
        self.code = code
        self.message = message


class Unreachable(Exception):
    """No answer, or one that says: later."""


class Api:
    """One namespace of one cluster.

    Requests are of two kinds. Those for a `Resource` stay in the namespace. Those for a path reach everything
    that the caller may see.

    Args:
        client: says where the server is and who asks.
        namespace: of all namespaced objects.
        timing: `answer`, `away`, `refusal` and the pauses.
        request: to stop, which ends the wait for a server that does not answer.
        remedy: what to do about a server that does not answer, for the error's message.
    """

    def __init__(
        self, client: ApiClient, namespace: str, timing: Timing, request: StopRequest, remedy: str
    ) -> None:
        self.namespace = namespace
        self._remedy = remedy
        self.host: str = client.configuration.host
        self._client = client
        self._timing = timing
        self._request = request
        self._grants = Grants(timing.refusal)

    def get(self, resource: Resource, name: str) -> JsonObject:
        """An object. Raises ApiFailure (404 when there is none), and what `_persist` raises."""
        return self._persist("GET", self._path(resource, name))

    def find(self, resource: Resource, labels: str = "", fields: str = "") -> list[JsonObject]:
        """The objects that the selectors match. Raises what `get` raises."""
        return self.read_all(self._path(resource), labels, fields)

    def read(self, path: str, *, metadata_only: bool = False) -> JsonObject:
        """What is at a path. Raises what `get` raises.

        Args:
            metadata_only: leaves the object's content on the server, as a secret's should be.
        """
        return self._persist("GET", path, headers={"Accept": _METADATA_ONLY} if metadata_only else {})

    def read_all(self, path: str, labels: str = "", fields: str = "") -> list[JsonObject]:
        """The objects of a list at a path that the selectors match. Raises what `get` raises."""
        query = _selectors(labels, fields) | {"limit": _PAGE}
        found: list[JsonObject] = []
        while True:
            page = self._persist("GET", path, query=query)
            found += page.get("items") or []
            if not (rest := page["metadata"].get("continue")):
                return found
            query["continue"] = rest

    def ask(self, path: str, body: JsonObject, user: str | None = None) -> JsonObject:
        """The server's answer to a review, which it does not keep. Raises what `get` raises.

        Args:
            user: in whose place it is asked; the caller's own when None.
        """
        return self._persist("POST", path, body=body, headers={"Impersonate-User": user} if user else {})

    def create(self, resource: Resource, body: JsonObject, *, is_rehearsal: bool = False) -> JsonObject:
        """Creates an object; unknown fields are refused.

        Args:
            is_rehearsal: everything is checked, and nothing kept.
        """
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if is_rehearsal else {})
        return self._persist("POST", self._path(resource), query=query, body=body)

    def delete(self, resource: Resource, name: str) -> None:
        """Deletes an object and, in the background, what it owns; one that is not there is fine."""
        with contextlib.suppress(NotFound):
            self._persist("DELETE", self._path(resource, name), body=_BACKGROUND)

    def get_at_once(self, resource: Resource, name: str, seconds: float) -> JsonObject:
        """As `get`, in one attempt of so many seconds; raises Unreachable too."""
        return self._attempt("GET", self._path(resource, name), seconds=seconds)

    def delete_at_once(self, resource: Resource, name: str, seconds: float) -> None:
        """As `delete`, in one attempt of so many seconds; raises Unreachable too."""
        with contextlib.suppress(NotFound):
            self._attempt("DELETE", self._path(resource, name), body=_BACKGROUND, seconds=seconds)

    def snapshot(self, resource: Resource, labels: str, fields: str) -> tuple[list[JsonObject], str]:
        """The matching objects and their version, from which to watch; in one attempt."""
        answer = self._attempt("GET", self._path(resource), query=_selectors(labels, fields))
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    @contextlib.contextmanager
    def stream(
        self,
        resource: Resource,
        name: str = "",
        subresource: str = "",
        *,
        query: Mapping[str, str],
        silence: float,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer whose lines come as things happen; in one attempt.

        Args:
            silence: seconds without a line after which the connection counts as lost.

        Raises:
            ApiFailure: there is no such stream.
            Unreachable: it could not be opened, or broke off.
        """
        try:
            path = self._path(resource, name, subresource)
            response = self._open("GET", path, query, None, {}, silence)
            try:
                yield response
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(_in_words(error)) from error

    def _path(self, resource: Resource, *parts: str) -> str:
        root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        where = ["namespaces", self.namespace] if resource.is_namespaced else []
        steps = [urllib.parse.quote(part, safe="") for part in [*where, resource.plural, *parts] if part]
        return "/".join([root, *steps])

    def _persist(self, method: str, path: str, **rest: Any) -> JsonObject:
        """The answer, tried again while the server is away.

        Raises:
            ApiFailure: the server says no.
            ClusterError: the server did not answer for `timing.away` seconds.
            StoppedError: a stop was requested meanwhile.
        """
        begun = time.monotonic()
        for number in itertools.count():
            try:
                return self._attempt(method, path, **rest)
            except Unreachable as error:
                pause = self.pause(number)
                if time.monotonic() + pause > begun + self._timing.away:
                    raise self.is_away(time.monotonic() - begun, str(error)) from error
                self._sleep(pause)
        raise AssertionError("unreachable")

    def pause(self, number: int) -> float:
        """Seconds before another attempt, after `number` failures that followed a first one."""
        return random.uniform(
            0, min(self._timing.longest_pause, self._timing.first_pause * 2.0 ** min(number, 16))
        )

    def is_away(self, seconds: float, why: str) -> ClusterError:
        """The error for an outage that has lasted too long."""
        waited = f" for {seconds:.0f} s" if round(seconds) else ""
        return ClusterError(f"Kubernetes API {self.host}: no answer{waited} ({why}); {self._remedy}")

    def _attempt(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> JsonObject:
        try:
            silence = self._timing.answer if seconds is None else seconds
            response = self._open(method, path, query or {}, body, headers or {}, silence)
            content: JsonObject = parse_object(response.data)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(_in_words(error)) from error
        except ValueError as error:
            raise Unreachable(f"its answer is {error}") from error
        return content

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: JsonObject | None,
        headers: Mapping[str, str],
        silence: float,
    ) -> urllib3.BaseHTTPResponse:
        url = self.host.rstrip("/") + path
        sent = {"Accept": "application/json, */*", "Content-Type": "application/json", **headers}
        self._client.update_params_for_auth(sent, [], ["BearerToken"])
        response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
            method,
            f"{url}?{urllib.parse.urlencode(query)}" if query else url,
            body=json.dumps(body).encode() if body else None,
            headers=sent,
            timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, silence), read=silence),
            preload_content=False,
            retries=False,
        )
        kind = _OBJECT.sub(r"\1/NAME", path)
        what = f"{method} {kind} {'watch' in query} {headers.get('Impersonate-User', '')}"
        is_refused = response.status in _REFUSED
        if not is_refused:
            self._grants.allow(what)
        if 200 <= response.status < 300:
            return response
        raise _refusal(response, is_refused and self._grants.may_return(what))

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._request.is_made:
                raise StoppedError("stopped while the Kubernetes API did not answer")
            time.sleep(min(seconds, self._timing.poll))


class NotFound(ApiFailure):
    """There is no such object, or no such kind."""


class Conflict(ApiFailure):
    """An object of this name exists already."""


class Forbidden(ApiFailure):
    """The caller may not make this request, or an admission refuses the object."""


_KINDS: dict[int, type[ApiFailure]] = {403: Forbidden, 404: NotFound, 409: Conflict}

_BACKGROUND: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}


def _refusal(response: urllib3.BaseHTTPResponse, is_transient: bool) -> Exception:
    text = response.data.decode(errors="replace")
    try:
        message = str(parse_object(text)["message"])
    except (ValueError, KeyError):
        message = text.strip()[:500] or str(response.reason)
    if is_transient or response.status in _TRANSIENT:
        return Unreachable(f"HTTP {response.status}: {message}")
    return _KINDS.get(response.status, ApiFailure)(response.status, message)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return ({"labelSelector": labels} if labels else {}) | ({"fieldSelector": fields} if fields else {})


def _in_words(error: Exception) -> str:
    """The cause alone: urllib3 begins its messages with the connection."""
    return _CONNECTION.sub("", str(error)) or type(error).__name__


class Grants:
    """What the server has allowed so far.

    A server that has just started answers 403 to everybody, or 401, until it has read the cluster's Roles and
    accounts. So a refusal of what was allowed before counts only when it lasts.

    Args:
        seconds: that such a refusal may last.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._refused_since: dict[str, float | None] = {}

    def allow(self, what: str) -> None:
        """Takes note that a kind of requests is allowed."""
        self._refused_since[what] = None

    def may_return(self, what: str) -> bool:
        """Takes note that a kind of requests is refused; whether it may soon be allowed again."""
        if what not in self._refused_since:
            return False
        since = self._refused_since[what] or time.monotonic()
        self._refused_since[what] = since
        return time.monotonic() - since < self._seconds


def refused(doing: str, failure: ApiFailure) -> SetupError:
    """The error for an answer that another attempt would not change.

    Args:
        doing: what was tried, for example "TrainJob x cannot be created".
        failure: the answer.
    """
    return SetupError(f"{doing}: {failure.message}; {_remedy(failure)}")


def _remedy(failure: ApiFailure) -> str:
    if failure.code == 401:
        return "this step's service account is not known to the cluster: check the kubeconfig or its token"
    if isinstance(failure, NotFound):
        return "install the operator of the deployment's job.kind, or choose the other one"
    if "unknown field" in failure.message:
        return "install an operator that knows it: Kubeflow Trainer 2.2 or newer, training-operator 1.9"
    if failure.code == 403 and "cannot" in failure.message and "admission" not in failure.message:
        return (
            "bind the Role optduel-launcher to this step's service account: apply optduel's manifests "
            "(`optduel doctor` says what is missing)"
        )
    return "change the deployment, or what the cluster admits"


_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(
    timing: Timing,
    request: StopRequest,
    *,
    remedy: str,
    context: str | None = None,
    streams: int = 0,
) -> Api:
    """The API as this pod's service account uses it, or outside of a pod the user of the kubeconfig.

    Args:
        timing: of every request.
        request: to stop.
        remedy: what to do about a server that does not answer, for the error's message.
        context: of the kubeconfig, which is then taken in a pod too; its current one when None.
        streams: that are open at the same time, each on a connection of its own.

    Raises:
        SetupError: neither a service account nor a usable kubeconfig is there.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = streams + 8
    namespace = "" if context else _in_cluster(configuration)
    namespace = namespace or _by_kubeconfig(configuration, context)
    return Api(ApiClient(configuration), namespace, timing, request, remedy)


def _in_cluster(configuration: Configuration) -> str:
    try:
        load_incluster_config(client_configuration=configuration)
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except (ConfigException, FileNotFoundError):
        return ""


def _by_kubeconfig(configuration: Configuration, context: str | None) -> str:
    # The client reads the variable once, when it is imported.
    file = os.environ.get("KUBECONFIG")
    try:
        load_kube_config(file, context=context, client_configuration=configuration)
        contexts, active = list_kube_config_contexts(file)
    except (ConfigException, OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SetupError(
            f"Kubernetes: no access: there is no service account here, and no kubeconfig ({reason}); "
            "run this as a step of a pipeline, or set KUBECONFIG or --kube-context"
        ) from error
    used = next((one for one in contexts if one["name"] == context), active)
    return str(used["context"].get("namespace") or "default")

"""Kubeflow Pipelines' API server for tests: HTTP on loopback, everything in memory, faults on demand.

Speaks as much of v2beta1 as optduel uses, with the gateway's error bodies, pages and filters. A run's
workflow moves on by `steps_per_look` steps whenever somebody looks at the run.
"""

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cluster.kfp_requests import ApiError, Http, Object, Request, exists, not_found
from tests.cluster.kfp_workflow import Workflow, read_package


@dataclass
class KfpServer:
    """Runs while `with` lasts.

    Attributes:
        version: what it tells of itself; below 2 it knows no v2beta1.
        token: when set, the only bearer token that is accepted.
        cookie: when set, the session that a proxy in front asks for; others get its sign-in page.
        redirects: the proxy redirects to its sign-in page, instead of showing it.
        denied: parts of "METHOD path" that the caller may not.
        before: runs before a request is answered, for example as somebody else who is faster.
        logs: of pods.
        steps_per_look: how far a run's workflow moves whenever it is looked at.
        failing: what a run's workflow will fail at, see `Workflow`.
        stock: whether its runs' workflows have Retry nodes, see `Workflow`.
        away: how many requests get no answer but a broken connection.
        largest_page: elements of a list at a time, whatever is asked for.
    """

    version: str = "2.17.0"
    multi_user: bool = False
    token: str = ""
    cookie: str = ""
    redirects: bool = False
    denied: tuple[str, ...] = ()
    before: Callable[[Request], None] | None = None
    steps_per_look: int = 1
    failing: dict[str, int] = field(default_factory=dict)
    stock: bool = False
    away: int = 0
    largest_page: int = 3
    requests: list[Request] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    pipelines: dict[str, Object] = field(default_factory=dict)
    versions: dict[str, Object] = field(default_factory=dict)
    experiments: dict[str, Object] = field(default_factory=dict)
    runs: dict[str, Object] = field(default_factory=dict)
    recurring_runs: dict[str, Object] = field(default_factory=dict)
    workflows: dict[str, Workflow] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _moment: int = 0

    def __enter__(self) -> "KfpServer":
        self._http = Http(("127.0.0.1", 0), self)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def sent(self, method: str, path: str) -> list[Request]:
        """The requests of a method to paths that end so."""
        return [one for one in self.requests if one.method == method and one.path.endswith(path)]

    def now(self) -> str:
        """A later time at every call, so that orders are certain."""
        self._moment += 1
        return f"2026-11-24T{self._moment // 3600:02d}:{self._moment // 60 % 60:02d}:{self._moment % 60:02d}Z"

    # --- answers --------------------------------------------------------------------------------

    def answer(self, request: Request) -> Object | str:
        """What a request is answered with; a str is plain text."""
        self.requests.append(request)
        if self.before:
            self.before(request)
        if request.path == "/apis/v1beta1/healthz":
            return {"tag_name": self.version, "commit_sha": "abc", "multi_user": self.multi_user}
        if self.version.startswith("1."):
            raise ApiError(404, 5, "Not Found")
        if request.path == "/apis/v2beta1/healthz":
            return {"tag_name": self.version, "commit_sha": "abc", "multi_user": self.multi_user}
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, 16, "Unauthenticated: Review.Status.Authenticated is false")
        if any(part in f"{request.method} {request.path}" for part in self.denied):
            raise ApiError(403, 7, "PermissionDenied: User 'you' is not authorized with reason: no role")
        return self._route(request)

    def _route(self, request: Request) -> Object | str:
        if log := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", request.path):
            if log[2] not in self.logs:
                raise ApiError(500, 13, "error in opening log stream")
            return self.logs[log[2]]
        parts = request.path.removeprefix("/apis/v2beta1/").split("/")
        identifier, _, verb = (parts[1] if len(parts) > 1 else "").partition(":")
        match request.method, parts[0], len(parts):
            case "POST", "pipelines", 1:
                return self._create_pipeline(request.body)
            case "POST", "pipelines", 2:
                return self._upload_version(request)
            case "GET", "pipelines", 1:
                return self._page(request, "pipelines", self.pipelines)
            case "GET", "pipelines", 3 if parts[1] == "names":
                return self._by_name(parts[2], request.query.get("namespace", ""))
            case "GET", "pipelines", 3:
                mine = {key: one for key, one in self.versions.items() if one["pipeline_id"] == parts[1]}
                return self._page(request, "pipeline_versions", mine)
            case "GET", "pipelines", 4:
                return self._get(self.versions, parts[3])
            case "POST", "experiments", 1:
                return self._create_experiment(request.body)
            case "GET", "experiments", 1:
                return self._page(request, "experiments", self.experiments)
            case "POST", "runs", 1:
                return self._create_run(request.body)
            case "POST", "runs", 2 if verb == "terminate":
                return self._terminate(identifier)
            case "GET", "runs", 1:
                mine = self.runs
                if wanted := request.query.get("experiment_id"):
                    mine = {key: one for key, one in mine.items() if one["experiment_id"] == wanted}
                return self._page(request, "runs", mine)
            case "GET", "runs", 2:
                return self._look(identifier)
            case "POST", "recurringruns", 1:
                return self._create_recurring_run(request.body)
            case "POST", "recurringruns", 2:
                enabled = verb == "enable"
                one = self._get(self.recurring_runs, identifier)
                one |= {"mode": verb.upper(), "status": "ENABLED" if enabled else "DISABLED"}
                return {}
            case "DELETE", "recurringruns", 2:
                self._get(self.recurring_runs, identifier)
                del self.recurring_runs[identifier]
                return {}
            case "GET", "recurringruns", 1:
                return self._page(request, "recurringRuns", self.recurring_runs)
        raise ApiError(501, 12, f"{request.method} {request.path}: this double has no such method")

    def _get(self, kept: dict[str, Object], identifier: str) -> Object:
        if identifier not in kept:
            raise not_found(identifier)
        return kept[identifier]

    def _page(self, request: Request, field_name: str, kept: dict[str, Object]) -> Object:
        namespace = request.query.get("namespace", "")
        if namespace and not self.multi_user:
            raise ApiError(400, 3, "In single-user mode, List cannot filter by namespace")
        found = list(kept.values())
        if request.query.get("filter"):
            for predicate in json.loads(request.query["filter"])["predicates"]:
                if predicate["operation"] != 1:
                    raise ApiError(400, 3, "this double knows EQUALS only")
                found = [one for one in found if one[predicate["key"]] == predicate["stringValue"]]
        if request.query.get("sort_by") == "created_at desc":
            found = found[::-1]
        start = int(request.query.get("page_token") or 0)
        end = start + min(int(request.query.get("page_size") or 10), self.largest_page)
        page: Object = {field_name: found[start:end], "total_size": len(found)}
        return page | ({"next_page_token": str(end)} if end < len(found) else {})

    def _by_name(self, name: str, namespace: str) -> Object:
        for one in self.pipelines.values():
            if one["name"] == name and one.get("namespace", "") == namespace:
                return one
        raise not_found(f"Pipeline {name}")

    def _create_pipeline(self, body: Object) -> Object:
        if any(one["name"] == body["name"] for one in self.pipelines.values()):
            raise exists("pipeline")
        made = {"pipeline_id": str(uuid.uuid4()), "created_at": self.now(), **body}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def _upload_version(self, request: Request) -> Object:
        query = request.query
        self._get(self.pipelines, query["pipelineid"])
        for one in self.versions.values():
            if (one["pipeline_id"], one["name"]) == (query["pipelineid"], query["name"]):
                raise ApiError(409, 6, "Failed to create a pipeline version")
        made = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": query["name"],
            "name": query["name"],
            "description": query.get("description", ""),
            "created_at": self.now(),
            "pipeline_spec": read_package(request.body),
        }
        self.versions[made["pipeline_version_id"]] = made
        return made

    def _create_experiment(self, body: Object) -> Object:
        if any(one["display_name"] == body["display_name"] for one in self.experiments.values()):
            raise exists("experiment")
        made = {"experiment_id": str(uuid.uuid4()), "created_at": self.now(), **body}
        self.experiments[made["experiment_id"]] = made
        return made

    def _create_run(self, body: Object) -> Object:
        self._get(self.experiments, body["experiment_id"])
        version = self._get(self.versions, body["pipeline_version_reference"]["pipeline_version_id"])
        identifier = str(uuid.uuid4())
        made = {"run_id": identifier, "created_at": self.now(), "state": "PENDING", **body}
        self.runs[identifier] = made
        self.workflows[identifier] = Workflow(version["pipeline_spec"], self.failing, self.now, self.stock)
        return made

    def _look(self, identifier: str) -> Object:
        run = self._get(self.runs, identifier)
        workflow = self.workflows[identifier]
        if run["state"] in ("PENDING", "RUNNING"):
            for _ in range(self.steps_per_look):
                workflow.step()
            run["state"] = workflow.state
        return run | {"run_details": {"task_details": workflow.details()}}

    def _terminate(self, identifier: str) -> Object:
        self._get(self.runs, identifier)["state"] = "CANCELED"
        return {}

    def _create_recurring_run(self, body: Object) -> Object:
        status = "ENABLED" if body["mode"] == "ENABLE" else "DISABLED"
        made = {"recurring_run_id": str(uuid.uuid4()), "created_at": self.now(), "status": status, **body}
        self.recurring_runs[made["recurring_run_id"]] = made
        return made

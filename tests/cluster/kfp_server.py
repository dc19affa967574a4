"""Kubeflow Pipelines' API server for tests: HTTP on loopback, everything in memory, faults on demand.

Answers as the recorded server did (tests/cluster/recordings), as much of it as optduel uses. A run's Workflow
moves on by `steps_per_look` steps whenever somebody looks at the run.
"""

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import yaml

from tests.cluster.kfp_package import read_package
from tests.cluster.kfp_recurring import RecurringRuns
from tests.cluster.kfp_requests import ApiError, Http, Object, Request, check_description, exists, not_found
from tests.cluster.kfp_workflow import Workflow
from tests.cluster.recorded import answer, body

CANCEL_LOOKS = 2
"""Looks at a run between the request for its end and its end."""


@dataclass
class KfpServer:
    """Runs while `with` lasts.

    Attributes:
        version: what it tells of itself; below 2 it knows no v2beta1.
        through_ui: whether requests come through the UI, which passes on most of the API, and has more.
        token: when set, the only bearer token that is accepted.
        cookie: when set, the session that a proxy in front asks for; others get its sign-in page.
        redirects: the proxy redirects to its sign-in page, instead of showing it.
        denied: parts of "METHOD path" that the caller may not.
        before: runs before a request is answered, for example as somebody else who is faster.
        logs: of pods.
        steps_per_look: how far a run's Workflow moves whenever it is looked at.
        late: so many looks at a Workflow show it as it was, when its run has ended already.
        failing, saying, pending, stock, outputs: of Workflows, see `Workflow`.
        away: how many requests get no answer but a broken connection.
        largest_page: elements of a list at a time, whatever is asked for.
    """

    version: str = "2.17.0"
    through_ui: bool = False
    multi_user: bool = False
    token: str = ""
    cookie: str = ""
    redirects: bool = False
    denied: tuple[str, ...] = ()
    before: Callable[[Request], None] | None = None
    steps_per_look: int = 1
    late: int = 0
    failing: dict[str, int] = field(default_factory=dict)
    saying: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    stock: bool = True
    outputs: dict[str, str] = field(default_factory=lambda: {"decide.Output": "train"})
    away: int = 0
    largest_page: int = 3
    requests: list[Request] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    pipelines: dict[str, Object] = field(default_factory=dict)
    versions: dict[str, Object] = field(default_factory=dict)
    experiments: dict[str, Object] = field(default_factory=dict)
    runs: dict[str, Object] = field(default_factory=dict)
    workflows: dict[str, Workflow] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _saved: dict[str, str] = field(default_factory=dict)
    _moment: int = 0

    def __post_init__(self) -> None:
        self.recurring = RecurringRuns(self)

    @property
    def recurring_runs(self) -> dict[str, Object]:
        return self.recurring.kept

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
            return self._health()
        if self.version.startswith("1."):
            raise ApiError(404, 5, "Not Found")
        if request.path == "/apis/v2beta1/healthz":
            return self._health()
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, 16, "Unauthenticated: Review.Status.Authenticated is false")
        if any(part in f"{request.method} {request.path}" for part in self.denied):
            raise ApiError(403, 7, "PermissionDenied: User 'you' is not authorized with reason: no role")
        return self._route(request)

    def _route(self, request: Request) -> Object | str:
        if log := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", request.path):
            return self.logs.get(log[2], body("logs-v1alpha1-unknown-node"))
        if request.path == "/k8s/pod/logs":
            if request.query["podname"] not in self.logs:
                raise ApiError(500, 13, "Could not get main container logs: pod not found")
            return self.logs[request.query["podname"]]
        if whole := re.fullmatch(r"/apis/v1beta1/runs/([^/]+)", request.path):
            return self._whole(whole[1])
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
                return self.create_run(request.body)
            case "POST", "runs", 2 if verb == "terminate":
                return self._terminate(identifier)
            case "GET", "runs", 1:
                mine = self.runs
                if wanted := request.query.get("experiment_id"):
                    mine = {key: one for key, one in mine.items() if one["experiment_id"] == wanted}
                return self._page(request, "runs", mine)
            case "GET", "runs", 2:
                return self.look(identifier)
            case "POST", "recurringruns", 1:
                return self.recurring.create(request.body)
            case "POST", "recurringruns", 2:
                self._get(self.recurring_runs, identifier)
                return self.recurring.switch(identifier, verb == "enable")
            case "DELETE", "recurringruns", 2:
                self._get(self.recurring_runs, identifier)
                return self.recurring.delete(identifier)
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
                found = [one for one in found if one.get(predicate["key"]) == predicate["stringValue"]]
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
        check_description(body)
        if any(one["display_name"] == body["display_name"] for one in self.experiments.values()):
            raise exists("experiment")
        made = {"experiment_id": str(uuid.uuid4()), "created_at": self.now(), **body}
        self.experiments[made["experiment_id"]] = made
        return made

    def create_run(self, body: Object) -> Object:
        check_description(body)
        self._get(self.experiments, body["experiment_id"])
        version = self._get(self.versions, body["pipeline_version_reference"]["pipeline_version_id"])
        identifier, created = str(uuid.uuid4()), self.now()
        history = [{"update_time": created, "state": "PENDING"}]
        made = {"run_id": identifier, "created_at": created, "state": "PENDING", "state_history": history}
        self.runs[identifier] = made = {**body, **made}
        config = body["runtime_config"]
        self.workflows[identifier] = Workflow(
            version["pipeline_spec"],
            identifier,
            f"optduel-{identifier[:5]}",
            self.now,
            self.failing,
            self.saying,
            self.pending,
            self.stock,
            config.get("pipeline_root", "minio://mlpipeline/v2/artifacts"),
            config["parameters"],
            self.outputs,
        )
        return made

    def change(self, run: Object, state: str | None) -> None:
        """Gives a run a state; none at all between its creation and its beginning."""
        if run.get("state") != state:
            run.pop("state", None)
            told = {"state": state} if state else {}
            run |= told
            run["state_history"].append({"update_time": self.now(), **told})

    def look(self, identifier: str) -> Object:
        run = self._get(self.runs, identifier)
        workflow = self.workflows.get(identifier)
        if workflow is None:  # collected with its schedule
            return run
        if run.get("state") == "PENDING":
            self.change(run, None)
        elif run.get("state") in (None, "RUNNING"):
            for _ in range(self.steps_per_look):
                workflow.step()
            ended = {"Succeeded": "SUCCEEDED", "Failed": "FAILED"}
            self.change(run, ended.get(workflow.phase, "RUNNING"))
        elif run["state"] == "CANCELING":
            run["looks"] = run.get("looks", 0) + 1
            if run["looks"] == CANCEL_LOOKS:
                workflow.cancel()
                self.change(run, "FAILED")
        return run | {"run_details": {"task_details": workflow.details()}}

    def _whole(self, identifier: str) -> Object:
        """The run as the first API shows it, with its Workflow."""
        run = self._get(self.runs, identifier)
        reference = run["pipeline_version_reference"]
        has_ended = run.get("state") in ("SUCCEEDED", "FAILED")
        if has_ended and self.late and identifier in self._saved:
            self.late -= 1
        elif identifier in self.workflows:
            self._saved[identifier] = self.workflows[identifier].text()
        version = self.versions[reference["pipeline_version_id"]]
        if "text" not in version:
            package = version["pipeline_spec"]
            documents = [package.get("pipeline_spec", package), package.get("platform_spec", {})]
            version["text"] = yaml.dump_all(documents, Dumper=yaml.CSafeDumper)
        states = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "CANCELING": "Terminating"}
        return {
            "run": {
                "id": identifier,
                "name": run["display_name"],
                "pipeline_spec": {
                    "pipeline_id": reference["pipeline_id"],
                    "pipeline_manifest": version["text"],
                },
                "status": states.get(run.get("state", ""), "Running"),
            },
            "pipeline_runtime": {"workflow_manifest": self._saved[identifier]},
        }

    def _terminate(self, identifier: str) -> Object:
        run = self._get(self.runs, identifier)
        if run.get("state") in ("SUCCEEDED", "FAILED"):
            said = "Failed to terminate a run: InternalServerError: Failed to terminate run: Row not found"
            raise ApiError(400, 3, said)
        if identifier not in self.workflows:
            run["state"] = "CANCELING"
            raise ApiError(500, 13, "Failed to terminate a run: workflows.argoproj.io not found")
        self.change(run, "CANCELING")
        return {}

    def _health(self) -> Object:
        if self.through_ui:
            told = {"apiServerTagName": self.version, "apiServerMultiUser": self.multi_user}
            return {**answer("healthz-through-ui"), **told, "multi_user": self.multi_user}
        told = {"tag_name": self.version, "multi_user": self.multi_user}
        return {**answer("healthz-of-api-server"), **told}

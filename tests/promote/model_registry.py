"""Stands for Kubeflow's Model Registry: answers what its real server answered when it was recorded.

`recordings/model_registry.json` holds the requests and answers, with what answered and when; a test replays
them all. What is not in them is not here.
"""

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BASE = "/api/model_registry/v1alpha3/"

KNOWN = {
    "registered_models": {"name", "description", "customProperties"},
    "model_versions": {"name", "description", "customProperties", "registeredModelId", "author"},
    "artifacts": {"name", "customProperties", "artifactType", "uri", "modelFormatName", "modelFormatVersion"}
    | {"modelSourceKind", "modelSourceClass", "modelSourceId", "modelSourceName"},
}
"""Fields by collection; others are refused."""

WORDS = {"registered_models": "registered model", "model_versions": "model version"}


class ModelRegistry:
    """What the server keeps.

    Attributes:
        address: of the server.
        authorizations: header of each request.
        fails_after: so many more requests are done, and the answer to the next one is lost.
    """

    def __init__(self) -> None:
        self.address = ""
        self.authorizations: list[str | None] = []
        self.fails_after: int | None = None
        self._things: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._numbers = {"context": 0, "artifact": 0}
        self._clock = 0
        self._lock = threading.Lock()

    def answer(self, method: str, place: str, body: Any) -> tuple[int, dict[str, Any]]:
        """The status and the document for a request."""
        path, _, query = place.removeprefix(BASE).partition("?")
        with self._lock:
            self._clock += 1
            if method == "GET":
                return self._found(path, dict(urllib.parse.parse_qsl(query)))
            if method == "PATCH":
                return self._changed(path, body)
            return self._made(path, body)

    def _found(self, path: str, wanted: dict[str, str]) -> tuple[int, dict[str, Any]]:
        words = path.replace("_", " ")
        parent = wanted.get("parentResourceId", "")
        kind = "artifacts" if path == "model_artifact" else f"{path}s"
        thing = self._things.get((kind, parent, wanted["name"]))
        if thing is None:
            of_parent = f" parentResourceId={parent}," if parent else ""
            return _error(
                404,
                "Not Found",
                f"no {words}s found for name={wanted['name']},{of_parent} externalId=: not found",
            )
        return 200, thing

    def _made(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        collection = path.rpartition("/")[2]
        if unknown := sorted(body.keys() - KNOWN[collection]):
            return _error(400, "Bad Request", f'json: unknown field "{unknown[0]}"')
        if "name" not in body:
            return _error(422, "Bad Request", "required field 'name' is zero value.")
        parent = body.get("registeredModelId", "") or (path.split("/")[1] if "/" in path else "")
        numbered = "artifact" if collection == "artifacts" else "context"
        self._numbers[numbered] += 1  # a database counts what it refuses, too
        if (collection, parent, body["name"]) in self._things:
            word = WORDS.get(collection, "model artifact")
            return _error(409, "Conflict", f"{word} with name {body['name']} already exists: conflict")
        made = {"customProperties": {}, **body, "id": str(self._numbers[numbered])}
        if collection != "artifacts":
            made["state"] = "LIVE"
        made["createTimeSinceEpoch"] = made["lastUpdateTimeSinceEpoch"] = str(self._clock)
        self._things[collection, parent, body["name"]] = made
        return 201, made

    def _changed(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        collection, number = path.split("/")
        for (kind, _, _), thing in self._things.items():
            if (kind, thing["id"]) == (collection, number):
                thing.update(body, lastUpdateTimeSinceEpoch=str(self._clock))  # custom properties as a whole
                return 200, thing
        raise AssertionError(f"no recording of a PATCH of {path}, which is not there")

    def loses(self) -> bool:
        """Whether the answer that was made is lost."""
        with self._lock:
            if self.fails_after is None:
                return False
            self.fails_after -= 1
            return self.fails_after < 0


def _error(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"code": code, "message": message}


@contextlib.contextmanager
def model_registry() -> Iterator[ModelRegistry]:
    """The server, while the body runs."""
    registry = ModelRegistry()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            registry.authorizations.append(self.headers.get("Authorization"))
            status, told = registry.answer(self.command, self.path, body)
            if registry.loses():
                status, told = 500, {"code": "Internal Server Error", "message": "lost"}
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _do  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            registry.address = f"http://127.0.0.1:{server.server_port}"
            yield registry
        finally:
            server.shutdown()
            thread.join()

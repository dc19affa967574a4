"""How the test's Kubeflow Pipelines reads requests and answers them."""

import json
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.cluster.recorded import body

if TYPE_CHECKING:
    from tests.cluster.kfp_server import KfpServer

Object = dict[str, Any]

SIGN_IN = b"<!DOCTYPE html><html><title>Log in to Your Account</title></html>"


class ApiError(Exception):
    """An answer that is an error: HTTP status, gRPC code, words."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> Object:
        kind = "type.googleapis.com/google.rpc.Status"
        detail = {"@type": kind, "code": self.code, "message": self.message.rpartition(": ")[2]}
        return {"code": self.code, "message": self.message, "details": [detail]}


def not_found(what: str) -> ApiError:
    return ApiError(404, 5, f"ResourceNotFoundError: {what} not found")


def exists(what: str) -> ApiError:
    return ApiError(409, 6, f"Already exist error: the {what} already exists. Please specify a new name")


def check_description(body: Object) -> None:
    """Columns of runs, jobs and experiments are VARCHAR(255): `DefaultStringSize` of client_manager.go."""
    if len(body.get("description", "")) > 255:
        told = "InternalServerError: Error 1406: Data too long for column 'Description' at row 1"
        raise ApiError(500, 13, told)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], server: "KfpServer") -> None:
        self.kfp = server
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Stays silent."""

    def _answer(self) -> None:
        server: KfpServer = self.server.kfp  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with server.lock:
            if server.away:
                server.away -= 1
                self.close_connection = True
                return
            if server.cookie and self.headers.get("Cookie") != server.cookie:
                location = {"Location": "/dex/auth?client_id=kubeflow"} if server.redirects else {}
                self._send(302 if server.redirects else 200, "text/html; charset=utf-8", SIGN_IN, location)
                return
            hidden = "/apis/v1alpha1/" if server.through_ui else "/k8s/"
            if not self.path.startswith(("/apis/", "/k8s/")) or self.path.startswith(hidden):
                if server.through_ui:
                    self._send(404, "text/html; charset=utf-8", body("logs-v1alpha1-through-ui").encode())
                else:
                    self._send(404, "text/plain", b"404 page not found\n")
                return
            address = urllib.parse.urlsplit(self.path)
            is_json = "json" in self.headers.get("Content-Type", "")
            request = Request(
                self.command,
                address.path,
                dict(urllib.parse.parse_qsl(address.query)),
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(content) if content and is_json else content,
            )
            try:
                answer = server.answer(request)
            except ApiError as error:
                self._send(error.status, "application/json", json.dumps(error.body()).encode())
                return
        if isinstance(answer, str):
            self._send(200, "text/plain; charset=utf-8", answer.encode())
        else:
            self._send(200, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

"""A server that takes alerts, as a webhook or a chat would."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CANARY = "canary-5f2c9e"
"""Part of every address, as a token is; it must show nowhere."""


@dataclass
class Receiver:
    """Keeps what it is sent.

    Attributes:
        port: where it listens, on loopback.
        received: path, content type and content of every request.
        answers: statuses of the next requests; 200 when there are none left.
    """

    port: int = 0
    received: list[tuple[str, str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def webhook(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/{CANARY}"

    @property
    def chat(self) -> str:
        return f"json://127.0.0.1:{self.port}/chat/{CANARY}"

    @property
    def events(self) -> list[str]:
        """Types of the CloudEvents that came."""
        return [one["type"] for _, kind, one in self.received if kind == "application/cloudevents+json"]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        receiver.received.append((self.path, self.headers["Content-Type"], content))
        status = receiver.answers.pop(0) if receiver.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stays silent."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.receiver = Receiver(server.server_address[1])  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.receiver  # type: ignore[attr-defined]
        server.shutdown()

"""A proxy between a client and a store over HTTP that does to some requests what networks and servers do."""

import contextlib
import http.client
import http.server
import re
import socket
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SLOW_BLOCK_BYTES = 1 << 16

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def metadata(self) -> str:
        """The first part of an upload to Cloud Storage in one request; it holds the object's name."""
        if "uploadType=multipart" not in self.path:
            return ""
        return self.body[: self.body.find(b"\r\n--", 2)].decode()


@dataclass
class Fault:
    """What happens to a request.

    Attributes:
        before: runs before the request is passed on, for example as another writer.
        answer: given without asking the store.
        flip_sent: the middle byte of the request's body is changed on the way.
        lose_answer: the store does what is asked, and the connection breaks before it can say so.
        silence: nothing comes for so many seconds; then the connection ends.
        reset_at: the connection is reset after this fraction of the body.
        cut_at: only this fraction of the body comes, with a Content-Length to match.
        flip: the middle byte of the answer's body is changed on the way.
        drip: seconds between two bytes of the body.
        methods: the requests that are meant.
        pattern: searched in the request's path and query, and in the metadata of an upload in one request.
        times: how many requests it happens to.
    """

    before: Callable[[], None] | None = None
    answer: Answer | None = None
    flip_sent: bool = False
    lose_answer: bool = False
    silence: float | None = None
    reset_at: float | None = None
    cut_at: float | None = None
    flip: bool = False
    drip: float | None = None
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    pattern: str = ""
    times: int = 1
    happened: int = 0

    def meets(self, request: Request) -> bool:
        return (
            self.happened < self.times
            and request.method in self.methods
            and re.search(self.pattern, request.path + request.metadata) is not None
        )


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


@dataclass
class FaultProxy:
    """Passes requests on to one server.

    Attributes:
        upstream: the server's address, `http://HOST:PORT`.
        requests: all that came, in order.
        busiest: the largest number of requests that were open at the same time.
        bytes_per_second: that a client can send; None for no limit.
    """

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    busiest: int = 0
    bytes_per_second: int | None = None
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def inject(self, fault: Fault) -> Fault:
        with self._lock:
            self.faults.append(fault)
        return fault

    def reset(self) -> None:
        """Forgets everything, and ends what is slow or silent."""
        with self._lock:
            self.faults.clear()
            self.requests.clear()
            self.busiest = 0
            self.bytes_per_second = None
            self.closing.set()
            self.closing = threading.Event()

    def fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.meets(request):
                    fault.happened += 1
                    return fault
        return None

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._open += 1
            self.busiest = max(self.busiest, self._open)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def ask(self, request: Request) -> Answer:
        address = urllib.parse.urlsplit(self.upstream)
        assert address.hostname is not None
        upstream = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        with contextlib.closing(upstream):
            upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in {"connection", "expect", "transfer-encoding"}:
                    upstream.putheader(name, value)
            upstream.endheaders(request.body or None)
            response = upstream.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            length = response.getheader("Content-Length")
            body = response.read()
        if request.method == "HEAD" and length:
            headers["Content-Length"] = length
        if "Location" in headers:  # resumable uploads go on through the proxy, too
            headers["Location"] = headers["Location"].replace(self.upstream, self.url)
        return Answer(response.status, headers, body)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy

    def log_message(self, *_: object) -> None: ...

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client is gone, as clients under faults are
            super().handle_one_request()

    def handle_any(self) -> None:
        with self.proxy.counted():
            length = int(self.headers.get("Content-Length", 0))
            body = self.receive(length)
            if len(body) < length:  # the client died
                self.break_off()
                return
            self.serve(Request(self.command, self.path, dict(self.headers.items()), body))

    def receive(self, length: int) -> bytes:
        if self.proxy.bytes_per_second is None:
            return self.rfile.read(length)
        body = bytearray()
        while len(body) < length and (block := self.rfile.read(min(SLOW_BLOCK_BYTES, length - len(body)))):
            body += block
            self.proxy.closing.wait(len(block) / self.proxy.bytes_per_second)
        return bytes(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def serve(self, request: Request) -> None:
        fault = self.proxy.fault_of(request) or Fault()
        if fault.before:
            fault.before()
        if fault.flip_sent:
            request.body = flipped(request.body)
        if fault.silence is not None:
            self.proxy.closing.wait(fault.silence)
            self.break_off()
            return
        answer = fault.answer or self.proxy.ask(request)
        if fault.lose_answer:
            self.break_off()
            return
        if fault.cut_at is not None:
            answer.body = answer.body[: int(len(answer.body) * fault.cut_at)]
        if fault.flip:
            answer.body = flipped(answer.body)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if fault.reset_at is not None:
            self.wfile.write(answer.body[: int(len(answer.body) * fault.reset_at)])
            self.break_off()
        elif fault.drip is not None:
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                if self.proxy.closing.wait(fault.drip):
                    break
            self.break_off()
        elif request.method != "HEAD":
            self.wfile.write(answer.body)

    def break_off(self) -> None:
        """Resets the connection, as a peer does that has died."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        # Little waits unread in the kernel, so that a client that sends too fast has to wait.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        self.connections: set[socket.socket] = set()

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        assert isinstance(request, socket.socket)
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Closes without a farewell, so that a linger of zero seconds resets the connection."""
        assert isinstance(request, socket.socket)
        self.connections.discard(request)
        request.close()

    def break_all(self) -> None:
        """Ends the connections that clients keep for later: the next proxy may get this one's port."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(upstream: str) -> Iterator[FaultProxy]:
    """A proxy on a port of its own."""
    proxy = FaultProxy(upstream)
    handler = type("ProxyHandler", (Handler,), {"proxy": proxy})
    with Server(handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            server.shutdown()
            thread.join()
            server.break_all()

"""Whatever is wrong with the way to Kubeflow Pipelines: one message, a remedy, in bounded time."""

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.pipeline.cli.command_line import main
from optduel.pipeline.kfp import connection
from tests.cluster.kfp_requests import ApiError, Request
from tests.cluster.kfp_server import KfpServer

COMMANDS = {
    "submit": ["submit", "digits", "--image", "i:1", "--set", "study.seeds=[0,1]"],
    "schedule": ["schedule", "create", "digits", "--image", "i:1", "--cron", "@daily"],
    "doctor": ["doctor", "--image", "i:1", "--deploy", "secrets=[]", "--deploy", "train.accelerators=0"],
    "status": ["status"],
}


pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer() as server:
        yield server


@pytest.fixture(autouse=True)
def no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def unreachable(kfp: KfpServer) -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


def unknown_name(kfp: KfpServer) -> str:
    return "http://kubeflow.example"


def no_tls(kfp: KfpServer) -> str:
    return kfp.url.replace("http://", "https://")


def broken_connection(kfp: KfpServer) -> str:
    kfp.away = 1000
    return kfp.url


def old_version(kfp: KfpServer) -> str:
    kfp.version = "2.5.0"
    return kfp.url


def old_version_through_the_ui(kfp: KfpServer) -> str:
    kfp.through_ui = True
    return old_version(kfp)


def very_old_version(kfp: KfpServer) -> str:
    kfp.version = "1.8.22"
    return kfp.url


def wrong_token(kfp: KfpServer) -> str:
    kfp.token = "another"
    return kfp.url


def missing_permission(kfp: KfpServer) -> str:
    kfp.denied = ("/pipelines", "/runs", "/experiments", "/recurringruns")
    return kfp.url


def sign_in_page(kfp: KfpServer) -> str:
    kfp.cookie = "session=abc"
    return kfp.url


def redirect_to_sign_in(kfp: KfpServer) -> str:
    kfp.cookie, kfp.redirects = "session=abc", True
    return kfp.url


def failing(kfp: KfpServer) -> str:
    def fail(request: Request) -> None:
        raise ApiError(503, 14, "connection error: database")

    kfp.before = fail
    return kfp.url


CASES: list[tuple[Callable[[KfpServer], str], str]] = [
    (unreachable, "does not answer: connection refused; check --host"),
    (unknown_name, "does not answer: the name of the host is not known; check --host"),
    (no_tls, "does not answer: TLS: "),
    (broken_connection, "does not answer: "),
    (old_version, "Kubeflow Pipelines = 2.5.0: must be 2.17 or newer; ask for an upgrade"),
    (old_version_through_the_ui, "Kubeflow Pipelines = 2.5.0: must be 2.17 or newer; ask for an upgrade"),
    (very_old_version, "Kubeflow Pipelines = 1.8.22: must be 2.17 or newer; ask for an upgrade"),
    (wrong_token, "401: no valid token or cookie was given: Unauthenticated"),
    (
        failing,
        "connection error: database; try again; if it stays so, see the log of the deployment ml-pipeline",
    ),
    (missing_permission, "403: not allowed to "),
    (sign_in_page, "a sign-in page answers, not Kubeflow Pipelines; give --token-file or --cookie-file"),
    (
        redirect_to_sign_in,
        "a sign-in page answers, not Kubeflow Pipelines; give --token-file or --cookie-file",
    ),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("trouble", "message"), CASES, ids=[case[0].__name__ for case in CASES])
def test_trouble_is_told_in_one_message(
    command: str,
    trouble: Callable[[KfpServer], str],
    message: str,
    kfp: KfpServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host = trouble(kfp)
    began = time.monotonic()
    code = main([*COMMANDS[command], "--host", host])
    out, err = capsys.readouterr()
    assert time.monotonic() - began < 60  # 10 s for a connection, 30 s for an answer, and compiling
    if command == "doctor":
        told = [line for line in out.splitlines() if message in line]
        assert (code, err) == (1, "")
        assert len(told) == 1
        assert told[0].startswith("failed ")
        return
    assert (code, out) == (2, "")
    (told,) = (line for line in err.splitlines() if not line.startswith("caution: "))
    assert told.startswith(f"optduel: error: {host}: ")
    assert message in told
    assert not kfp.runs
    assert not kfp.recurring_runs


def test_a_server_that_never_answers_is_given_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READ_SECONDS", 0.2)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code = main(["status", "--host", host])
    assert code == 2
    assert capsys.readouterr().err == (
        f"optduel: error: {host}: Kubeflow Pipelines does not answer: no answer in time; "
        "check --host (KF_PIPELINES_ENDPOINT), and that its port-forward or VPN is up\n"
    )


def test_a_server_that_does_not_tell_its_release_is_let_through(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.version = "unknown"
    assert main(["status", "--host", kfp.url]) == 0
    assert capsys.readouterr().err == "there are no runs yet\n"


def test_somewhere_else_is_told_apart(capsys: pytest.CaptureFixture[str], kfp: KfpServer) -> None:
    code = main(["status", "--host", f"{kfp.url}/elsewhere"])
    assert code == 2
    assert capsys.readouterr().err == (
        f"optduel: error: {kfp.url}/elsewhere: 404: no API of Kubeflow Pipelines 2 is there; "
        "check --host; behind a full Kubeflow it ends in /pipeline\n"
    )


class SendsOn(http.server.BaseHTTPRequestHandler):
    """As an ingress does that wants HTTPS."""

    def do_GET(self) -> None:
        self.send_response(308)
        self.send_header("Location", f"https://kubeflow.example{self.path}")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_an_address_that_sends_on_names_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SendsOn) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        code = main(["status", "--host", host])
        server.shutdown()
    assert code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"optduel: error: {host}: sends on to https://kubeflow.example/")
    assert told.endswith("; give that address as --host\n")

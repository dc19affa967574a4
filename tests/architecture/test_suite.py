"""The fixtures that every test relies on do what they promise."""

import errno
import os
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_no_host_can_be_reached_by_address() -> None:
    with socket.socket() as client:
        with pytest.raises(OSError, match="tests have no network"):
            client.connect(("192.0.2.1", 80))
        assert client.connect_ex(("192.0.2.1", 80)) == errno.ENETUNREACH


def test_no_host_can_be_reached_by_name() -> None:
    with pytest.raises(urllib.error.URLError, match="tests have no network: example.invalid"):
        urllib.request.urlopen("http://example.invalid", timeout=5)


def test_this_host_can_be_reached() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_no_setting_of_the_shell_is_seen() -> None:
    assert [name for name in os.environ if name.startswith("OPTDUEL_") or name == "TF_CONFIG"] == []


def test_the_table_of_promises_names_tests_that_are_there() -> None:
    table = (TESTS / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`tests/([\w/]+\.py)::(\w+)`", table)
    assert len(named) > 20
    missing = [
        f"{path}::{name}"
        for path, name in named
        if f"\ndef {name}(" not in (TESTS / path).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_what_only_the_whole_suite_runs_stands_in_the_table() -> None:
    table = (TESTS / "README.md").read_text(encoding="utf-8")
    marked = [
        path.relative_to(TESTS.parent)
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        and re.search(r"mark\.exhaustive\b|@one_store\b", path.read_text(encoding="utf-8"))
    ]
    assert len(marked) > 5
    assert [str(path) for path in marked if str(path) not in table] == []

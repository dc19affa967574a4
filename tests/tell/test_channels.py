"""Alerts arrive at a real server, and no address shows, whatever happens."""

import datetime
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cloudevents.core.bindings import http

from optduel.components.results import Notice
from optduel.components.settings import APPRISE_VARIABLE, WEBHOOKS_VARIABLE
from optduel.components.tell import telling
from optduel.components.tell.alerts import Alert
from optduel.components.tell.channels import Webhook
from optduel.components.tell.telling import send
from tests.tell.receivers import CANARY, Receiver

REFUSED = Notice(
    event="optduel.gate.refused",
    subject="flowers",
    summary="The candidate is worse by 0.4 points; <b>the champion</b> stays.",
    details={"accuracy": 0.71, "p": None, "class": "tulip"},
)
MOMENT = datetime.datetime(2026, 11, 30, 6, 12, tzinfo=datetime.UTC)
ALERT = Alert(REFUSED, "/optduel/flowers/runs/1", REFUSED.event, MOMENT, "http://ui/#/runs/details/1")


def test_a_webhook_gets_a_cloud_event_and_a_chat_gets_words(receiver: Receiver) -> None:
    sendings = send([ALERT], {WEBHOOKS_VARIABLE: receiver.webhook, APPRISE_VARIABLE: receiver.chat})
    assert [one.problem for one in sendings] == [None, None]
    by_path = {path: (kind, content) for path, kind, content in receiver.received}
    kind, content = by_path[f"/hook/{CANARY}"]
    event = http.from_structured_event(http.HTTPMessage({"Content-Type": kind}, json.dumps(content).encode()))
    assert (event.get_id(), event.get_source()) == ("optduel.gate.refused", "/optduel/flowers/runs/1")
    assert (event.get_type(), event.get_subject()) == ("optduel.gate.refused", "flowers")
    assert (event.get_time(), event.get_specversion()) == (MOMENT, "1.0")
    data: Any = event.get_data()
    assert data == {
        "summary": REFUSED.summary,
        "details": {"accuracy": 0.71, "p": None, "class": "tulip"},
        "link": "http://ui/#/runs/details/1",
    }
    _, words = by_path[f"/chat/{CANARY}"]
    assert words["title"] == "optduel: flowers: candidate refused"
    assert words["message"].splitlines() == [
        REFUSED.summary,
        "accuracy: 0.71",
        "class: tulip",
        "http://ui/#/runs/details/1",
    ]


@pytest.mark.parametrize(
    ("answers", "problem", "requests"),
    [
        ([503, 429], None, 3),
        ([503, 500, 502], "answered with HTTP 502", 3),
        ([404], "answered with HTTP 404", 1),
        ([302], "answered with HTTP 302", 1),
    ],
)
def test_a_webhook_is_asked_again_only_where_that_can_help(
    receiver: Receiver, answers: list[int], problem: str | None, requests: int
) -> None:
    receiver.answers = answers
    (one,) = send([ALERT], {WEBHOOKS_VARIABLE: receiver.webhook})
    assert one.problem == problem
    assert [path for path, _, _ in receiver.received] == [f"/hook/{CANARY}"] * requests


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What libraries say where a program, as KFP's does, shows the log."""
    heard = logging.StreamHandler(io.StringIO())
    root = logging.getLogger()
    before = root.level
    root.addHandler(heard)
    root.setLevel(logging.INFO)
    yield heard.stream
    root.setLevel(before)
    root.removeHandler(heard)


def test_no_address_shows_whatever_happens(
    receiver: Receiver, capfd: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    receiver.answers = [500, 500, 500, 500]
    closed = f"http://127.0.0.1:1/{CANARY}"
    hooks = [f"ftp://{CANARY}", f"http://[::{CANARY}", closed, receiver.webhook, f"http://{CANARY}:x/"]
    chats = [f"nix://{CANARY}", f"slack://{CANARY}", f"json://127.0.0.1:1/{CANARY}", receiver.chat]
    environment = {WEBHOOKS_VARIABLE: "\n".join(hooks), APPRISE_VARIABLE: " ".join(chats)}
    sendings = send([ALERT], environment)
    assert len(sendings) == len(hooks) + len(chats)
    assert all(one.problem for one in sendings)
    said = capfd.readouterr()
    shown = said.out + said.err + log.getvalue() + "".join(one.canonical_json() for one in sendings)
    assert CANARY not in shown
    for number in range(1, len(hooks) + 1):
        assert f"({WEBHOOKS_VARIABLE}, address {number})" in said.err


def test_without_an_address_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert send([ALERT], {WEBHOOKS_VARIABLE: " \n"}) == []
    assert f"neither {WEBHOOKS_VARIABLE} nor {APPRISE_VARIABLE} holds an address" in capsys.readouterr().err


def test_a_receiver_that_never_answers_or_a_library_that_fails_keeps_no_other_from_its_alert(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck, original = threading.Event(), Webhook.send

    def trouble(self: Webhook, alert: Alert) -> str | None:
        if "address 1" in self.place:
            stuck.wait()
        if "address 2" in self.place:
            raise RuntimeError(CANARY)
        return original(self, alert)

    monkeypatch.setattr(Webhook, "send", trouble)
    monkeypatch.setattr(telling, "LONGEST_SECONDS", 2.0)
    try:
        sendings = send([ALERT], {WEBHOOKS_VARIABLE: " ".join([receiver.webhook] * 3)})
    finally:
        stuck.set()
    assert [one.problem for one in sendings] == ["took too long", "failed (RuntimeError)", None]
    assert CANARY not in capsys.readouterr().err

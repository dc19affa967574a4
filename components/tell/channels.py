"""Where alerts go: webhooks, and all that the library apprise knows, chats and mail among them.

An address is a secret: most hold a token. It comes from the environment, and is in no message of ours; an
address is called by its variable and its position there. What libraries say of a failure names addresses, so
only its kind is passed on.
"""

import logging
import re
import time
from collections.abc import Mapping
from typing import Protocol

from optduel.components.settings import APPRISE_VARIABLE, WEBHOOKS_VARIABLE
from optduel.components.tell.alerts import Alert

CONNECT_SECONDS = 5
READ_SECONDS = 10

PAUSES_SECONDS = (1.0, 3.0)
"""Before the second and the third attempt, where another one may succeed."""

_HTTP_ERROR = re.compile(r"\berror=(\d{3})\b")
"""In what apprise says of a refusal."""


class Channel(Protocol):
    """One address.

    Attributes:
        place: the address's variable and its position, for messages.
    """

    place: str

    def send(self, alert: Alert) -> str | None:
        """Sends an alert; returns why it was not delivered, or None where it was. Shows no address."""


def channels(environment: Mapping[str, str]) -> list[Channel]:
    """All addresses of an environment."""
    kinds = ((WEBHOOKS_VARIABLE, Webhook), (APPRISE_VARIABLE, AppriseService))
    return [
        kind(address, f"{variable}, address {number}")
        for variable, kind in kinds
        for number, address in enumerate(environment.get(variable, "").split(), start=1)
    ]


class Webhook:
    """Takes a CloudEvent in structured mode, by POST; any status from 200 to 299 is a receipt."""

    def __init__(self, address: str, place: str) -> None:
        self.place = place
        self._address = address

    def send(self, alert: Alert) -> str | None:
        """As `Channel` says."""
        if not self._address.lower().startswith(("https://", "http://")):
            return "is no web address; must begin with https://"
        reason: str | None = None
        for pause in (*PAUSES_SECONDS, 0):
            reason, may_pass = self._post(alert)
            if not may_pass:
                break
            time.sleep(pause)
        return reason

    def _post(self, alert: Alert) -> tuple[str | None, bool]:
        """Why it was not delivered, and whether another attempt may be."""
        import requests
        from cloudevents.core.bindings import http

        message = http.to_structured_event(alert.cloud_event())
        try:
            with requests.post(
                self._address,
                data=message.body,
                headers=message.headers,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,  # what it answers is of no interest
            ) as answer:
                status = answer.status_code
        except (requests.ConnectionError, requests.Timeout) as error:
            return f"cannot be reached ({type(error).__name__})", True
        except (requests.RequestException, ValueError) as error:
            return f"is no usable web address ({type(error).__name__})", False
        if 200 <= status < 300:
            return None, False
        return f"answered with HTTP {status}", status in (408, 429) or status >= 500


class AppriseService:
    """A chat, mail, or whatever else an address of the library apprise stands for."""

    def __init__(self, address: str, place: str) -> None:
        self.place = place
        self._address = address

    def send(self, alert: Alert) -> str | None:
        """As `Channel` says."""
        import apprise

        asset = apprise.AppriseAsset(app_id="optduel", storage_mode="memory", allow_templates=False)
        asset.async_mode = False
        log = logging.getLogger("apprise")
        heard = _Heard()
        log.propagate = False  # it quotes addresses
        log.addHandler(heard)
        try:
            service = apprise.Apprise(asset=asset)
            if not service.add(self._address):
                return "is no address that apprise knows; see its documentation"
            delivered = service.notify(
                title=alert.title,
                body=alert.text,
                notify_type=apprise.NotifyType.INFO,
                body_format=apprise.NotifyFormat.TEXT,
            )
        finally:
            log.removeHandler(heard)
        if delivered:
            return None
        return f"answered with HTTP {heard.status}" if heard.status else "did not take it"


class _Heard(logging.Handler):
    """Keeps the status of an answer, and nothing else of what apprise says."""

    def __init__(self) -> None:
        super().__init__()
        self.status: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if found := _HTTP_ERROR.search(record.getMessage()):
            self.status = found[1]

"""A receiver of alerts, and no pauses between attempts."""

from collections.abc import Iterator

import pytest

from optduel.components.tell import channels
from tests.tell.receivers import Receiver, receiving


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(channels, "PAUSES_SECONDS", (0.0, 0.0))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with receiving() as running:
        yield running

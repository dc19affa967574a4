"""Follows objects as they change, through lost connections and forgotten versions."""

import queue
import threading
import time
from dataclasses import dataclass

from optduel.components.decoding import parse_object
from optduel.components.kubernetes.api import Api, ApiFailure, JsonObject, Resource, Unreachable

_MARGIN_SECONDS = 10.0
"""Beyond the time after which the server ends a watch: then the connection counts as lost."""

_GONE = 410


@dataclass(frozen=True)
class Listed:
    """All objects there are; what is not among them is gone."""

    resource: Resource
    objects: list[JsonObject]


@dataclass(frozen=True)
class Changed:
    """An object that is new or has changed, or is gone."""

    resource: Resource
    object: JsonObject
    is_gone: bool


@dataclass(frozen=True)
class Refused:
    """These objects may not be followed."""

    resource: Resource
    failure: ApiFailure


Sight = Listed | Changed | Refused


class Watcher(threading.Thread):
    """Lists objects, then watches them from that version on; lists again when the server has forgotten it.

    Args:
        sights: receives what is seen, in order.
        seconds: that one watch lasts.

    Attributes:
        trouble: since when, by the monotonic clock, the server does not answer, and why; None while it does.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        sights: "queue.SimpleQueue[Sight]",
        seconds: float,
        *,
        labels: str = "",
        fields: str = "",
    ) -> None:
        super().__init__(name=f"watch {resource.plural}", daemon=True)
        self.trouble: tuple[float, str] | None = None
        self._api = api
        self._resource = resource
        self._sights = sights
        self._seconds = seconds
        self._labels, self._fields = labels, fields
        self._version = ""
        self._is_over = threading.Event()

    def stop(self) -> None:
        """Ends the thread, which may first wait for the end of its watch."""
        self._is_over.set()

    def run(self) -> None:
        """Until stopped or refused."""
        failures = 0
        while not self._is_over.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
                failures = 0
            except Unreachable as error:
                self.trouble = (self.trouble[0] if self.trouble else time.monotonic(), str(error))
                self._is_over.wait(self._api.pause(failures))
                failures += 1
            except ApiFailure as failure:
                if failure.code != _GONE:
                    self._sights.put(Refused(self._resource, failure))
                    return
                self._version = ""

    def _list(self) -> None:
        found, self._version = self._api.snapshot(self._resource, self._labels, self._fields)
        self.trouble = None
        self._sights.put(Listed(self._resource, found))

    def _watch(self) -> None:
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(self._seconds))),
        }
        query |= {"labelSelector": self._labels} if self._labels else {}
        query |= {"fieldSelector": self._fields} if self._fields else {}
        with self._api.stream(self._resource, query=query, silence=self._seconds + _MARGIN_SECONDS) as lines:
            self.trouble = None
            for line in lines:
                if self._is_over.is_set():
                    return
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = parse_object(line)
            found, kind = event["object"], event["type"]
            code = int(found.get("code", 0)) if kind == "ERROR" else 0
            version = "" if kind == "ERROR" else str(found["metadata"]["resourceVersion"])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Unreachable("a watch broke off within a line") from error
        if kind == "ERROR":
            if code == _GONE or 400 <= code < 500:
                raise ApiFailure(_GONE, str(found.get("message")))
            raise Unreachable(str(found.get("message")))
        self._version = version
        if kind != "BOOKMARK":
            self._sights.put(Changed(self._resource, found, kind == "DELETED"))

"""Passes on what a worker prints, line by line, while it runs."""

import re
import sys
import threading
from datetime import datetime

from optduel.components.core import say
from optduel.components.kubernetes import PODS, Api, ApiFailure, Unreachable

_SILENCE_SECONDS = 60.0
"""A worker may be silent for longer: then its log is opened again where it was left."""

_NOT_STARTED = 400
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\d*(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)


class LogFollower(threading.Thread):
    """Writes a pod's log to standard error, each line with the worker's number before it.

    After a lost connection it goes on behind the last line: Kubernetes gives every line the time at which it
    was printed, to a nanosecond, and starts a log at a given second.

    Args:
        pod: its name.
        worker: which worker it is.
        pause: seconds before a log is opened again.
    """

    def __init__(self, api: Api, pod: str, container: str, worker: int, pause: float) -> None:
        super().__init__(name=f"log {pod}", daemon=True)
        self._api = api
        self._pod = pod
        self._container = container
        self._prefix = f"worker {worker} | "
        self._pause = pause
        self._has_ended = threading.Event()
        self._is_over = threading.Event()
        self._since = ""
        self._last = (0, 0)
        self._seen = 0

    def pod_has_ended(self) -> None:
        """Its log will not grow any more: what there is of it is the last."""
        self._has_ended.set()

    def finish(self, seconds: float) -> None:
        """Ends the thread; where the pod has ended, its last lines are waited for so long at most."""
        if self._has_ended.is_set():
            self.join(seconds)
        self._is_over.set()

    def run(self) -> None:
        """Until the log's end, or until it is given up."""
        while not self._is_over.is_set():
            is_complete = self._has_ended.is_set()
            try:
                self._follow()
                if is_complete:
                    return
            except ApiFailure as failure:
                if failure.code != _NOT_STARTED:
                    if failure.code in (401, 403):
                        say(f"the log of pod {self._pod} cannot be read: {failure}; training goes on")
                    return
                if is_complete:
                    return
            except Unreachable:
                pass  # the same line of the log is waiting
            self._is_over.wait(self._pause)

    def _follow(self) -> None:
        query = {"container": self._container, "follow": "true", "timestamps": "true"}
        query |= {"sinceTime": self._since} if self._since else {}
        repeated = self._seen
        is_behind = bool(self._since)
        with self._api.stream(PODS, self._pod, "log", query=query, silence=_SILENCE_SECONDS) as lines:
            for line in lines:
                if self._is_over.is_set():
                    return
                text = line.decode(errors="replace")
                stamp = _STAMP.fullmatch(text)
                if not stamp:  # the kubelet speaks
                    self._write(text)
                    continue
                seconds, fraction, zone, message = stamp.groups()
                instant = _instant(seconds, fraction, zone)
                if is_behind and instant <= self._last:
                    repeated -= instant == self._last
                    if instant < self._last or repeated >= 0:
                        continue
                is_behind = False
                if instant > self._last:
                    self._last, self._seen, self._since = instant, 1, f"{seconds}{zone}"
                else:
                    self._seen += instant == self._last
                self._write(message)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{self._prefix}{text if text.endswith(chr(10)) else text + chr(10)}")
        sys.stderr.flush()


def _instant(seconds: str, fraction: str | None, zone: str) -> tuple[int, int]:
    whole = datetime.fromisoformat(seconds + zone.replace("Z", "+00:00"))
    return int(whole.timestamp()), int((fraction or "0").ljust(9, "0"))

"""The time of the test's Kubeflow Pipelines."""

import datetime

from optduel.pipeline.kfp import moments
from tests.cluster.kfp_server import KfpServer


class ServerClock(moments.Clock):
    """The server's time, which passes when somebody waits."""

    def __init__(self, server: KfpServer) -> None:
        self._recurring = server.recurring

    def now(self) -> datetime.datetime:
        return self._recurring.now()

    def sleep(self, seconds: float) -> None:
        self._recurring.pass_time(seconds)

"""kill -9 while shards arrive from a store: what has arrived is used again, and no number changes."""

import random
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records
from optduel.components.settings import Data, DigitsSource
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.faults.conftest import make_task
from tests.faults.groups import Fault as Kill
from tests.faults.groups import launched, results
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.stored_trials import store
from tests.forking.fixtures import started_by
from tests.servers.places import PlaceOf

SHARDS = 8
KILLS = {"gs": [("trainer", 0), ("supervisor", 1)], "s3": [("trainer", 1), ("supervisor", 0)]}
"""What is killed. A third time at the same step would be a crash loop, which ends a run."""


class Gate:
    """Holds the requests for training shards back but for the first ones.

    Attributes:
        open_below: the shards that pass have smaller numbers.
    """

    def __init__(self, proxy: FaultProxy) -> None:
        self.open_below = 0
        self._moved = threading.Condition()
        for shard in range(SHARDS):
            pattern = rf"train-{shard:05d}-of-"
            before = self._holding(shard)
            proxy.inject(Fault(before=before, methods=("GET",), pattern=pattern, times=1000))

    def let_pass(self, open_below: int) -> None:
        with self._moved:
            self.open_below = open_below
            self._moved.notify_all()

    def _holding(self, shard: int) -> Callable[[], None]:
        def hold() -> None:
            with self._moved:
                self._moved.wait_for(lambda: shard < self.open_below)

        return hold


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Four shards for each of two workers."""
    data = Data(source=DigitsSource(), image_size=(8, 8), channels=1, shards=SHARDS)
    return prepare_records(data, str(tmp_path_factory.mktemp("digits")))


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_kills_while_shards_arrive_change_nothing(
    kind: str,
    place_of: PlaceOf,
    many_shards: Records,
    staging: Path,
    tmp_path: Path,
    forking_python: str,
) -> None:
    undisturbed = short(make_task(many_shards, tmp_path / "undisturbed"))
    with started_by(forking_python):
        LocalLauncher().run(undisturbed)
    place = place_of(kind)
    stored = store(many_shards, place.root)
    place.proxy.requests.clear()
    gate = Gate(place.proxy)
    draw = random.Random(kind)
    task = short(make_task(stored, tmp_path / "killed"))
    with launched(task) as group:
        for number, (target, worker) in enumerate(KILLS[kind], start=1):
            # One more shard arrives for each worker, which is when the chief says that it is staging.
            gate.let_pass(2 * number)
            group.inject(Kill(signal.SIGKILL, target, worker, "staging", 0, draw.uniform(0, 0.5)))
            group.wait_for_restart(number)
        gate.let_pass(SHARDS)
        assert group.wait() == 0, group.text()
    assert results(task) == results(undisturbed)
    whole = [found for request in place.proxy.requests if (found := re.search(r"train-\d+", request.path))]
    assert {found[0] for found in whole} == {f"train-{shard:05d}" for shard in range(SHARDS)}


def short(task: Task) -> Task:
    """Staging is over before the first step: few of them will do."""
    training = task.training.model_copy(update={"epochs": 2})
    return task.model_copy(update={"training": training})

"""When a group may start again: what counts, what shows that there is no hope, and how long it pauses."""

import pytest

from optduel.components.core import LaunchError, OptduelError, StoppedError, StopRequest
from optduel.components.train.contract import restarts
from optduel.components.train.contract.restarts import Restarts

STOPPED = StoppedError("saved on request")
LOST = LaunchError("lost")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each pause, which takes no time."""
    slept: list[float] = []
    monkeypatch.setattr(Restarts, "_sleep", lambda _, seconds: slept.append(seconds))
    monkeypatch.setattr(restarts.random, "uniform", lambda _, most: most)
    return slept


def test_preemptions_are_no_crash_loop(pauses: list[float]) -> None:
    waiting = Restarts("trial", 0, StopRequest())
    for _ in range(5):
        waiting.wait(STOPPED, 0)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_preemptions_between_failures_do_not_count_as_failures(pauses: list[float]) -> None:
    waiting = Restarts("trial", 5, StopRequest())
    for error in (STOPPED, LOST, STOPPED, LOST, STOPPED):
        waiting.wait(error, 7)
    with pytest.raises(LaunchError, match=r"^lost\. The last 3 attempts all ended at step 7"):
        waiting.wait(LOST, 7)
    assert len(pauses) == 5


@pytest.mark.parametrize("steps", [(7, 7, 7), (1, 7, 7, 7)])
def test_failures_at_one_step_are_a_crash_loop(pauses: list[float], steps: tuple[int, ...]) -> None:
    waiting = Restarts("trial", 100, StopRequest())
    for step in steps[:-1]:
        waiting.wait(LOST, step)
    with pytest.raises(OptduelError, match="no other is made"):
        waiting.wait(LOST, steps[-1])

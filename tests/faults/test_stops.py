"""SIGTERM and SIGSTOP: workers that are asked to stop save together, and frozen ones are replaced."""

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.train.contract.task import Task
from tests.faults.conftest import STEPS
from tests.faults.groups import Fault, Group, launched, results
from tests.train.processes import is_running, wait_until

NOTICED_SECONDS = 20.0
"""The promise for a frozen process."""

SLACK_SECONDS = 15.0


def inject_all(group: Group, faults: list[Fault]) -> None:
    for number, fault in enumerate(faults, start=1):
        when = group.inject(fault)
        noticed = group.wait_for_restart(number) - when
        assert noticed < NOTICED_SECONDS + SLACK_SECONDS, f"{fault}\n{group.text()}"


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_workers_that_are_asked_to_stop_lose_no_step(
    seed: int, task: Callable[..., Task], uninterrupted: str
) -> None:
    """Preemptions: they are not counted, so none of the restarts is needed."""
    draw = random.Random(seed)
    phases = ["starting", "training", "saving", "validating"]
    part = STEPS // (len(phases) + 1)
    faults = [
        Fault(
            signal.SIGTERM,
            "supervisor",
            number % 2,
            phase,
            step=part * number + draw.randrange(part // 2),
            delay=draw.uniform(0, 4) if phase == "starting" else draw.uniform(0, 0.01),
        )
        for number, phase in enumerate(phases)
    ]
    preempted = task(restarts=0, checkpoint_steps=None)
    with launched(preempted) as group:
        inject_all(group, faults)
        assert group.wait() == 0, group.text()
    saved = re.findall(r"stopped on request, saved after step (\d+)\. All workers", group.text())
    assert len(saved) >= 3
    assert re.findall(r"goes on after step (\d+) of", group.text()) == saved, "what was saved is what goes on"
    assert results(preempted) == uninterrupted


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_frozen_processes_are_replaced(seed: int, task: Callable[..., Task], uninterrupted: str) -> None:
    """The supervisor comes last: its training goes on, to the end perhaps, until the launcher misses it."""
    draw = random.Random(seed)
    part = STEPS // 5
    frozen = [("trainer", 0, "training"), ("trainer", 1, "saving"), ("supervisor", 1, "training")]
    faults = [
        Fault(signal.SIGSTOP, target, worker, phase, part * number + draw.randrange(part // 2), 0.0)
        for number, (target, worker, phase) in enumerate(frozen)
    ]
    trial = task()
    with launched(trial) as group:
        inject_all(group, faults)
        assert group.wait() == 0, group.text()
    assert results(trial) == uninterrupted


@pytest.mark.slow
def test_a_worker_frozen_at_its_start_ends_the_start(task: Callable[..., Task]) -> None:
    trial = task(restarts=0, start_seconds=8.0)
    with launched(trial) as group:
        group.inject(Fault(signal.SIGSTOP, "trainer", 1, "starting", 0, 0.3))
        began = time.monotonic()
        assert group.wait() == 75, group.text()
    assert time.monotonic() - began < 8 + 10 + SLACK_SECONDS
    assert "did not start within compute.start_seconds = 8" in group.text()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_whose_launcher_is_ended_goes_on_when_it_is_run_again(
    task: Callable[..., Task], uninterrupted: str
) -> None:
    trial = task()
    for number, expected, step in ((signal.SIGTERM, 143, STEPS // 5), (signal.SIGKILL, -9, STEPS // 2)):
        with launched(trial) as group:
            group.wait_for_step(step)
            pids = group.processes()
            began = time.monotonic()
            os.kill(group.process.pid, number)
            assert group.wait() == expected, group.text()
            wait_until(lambda pids=pids: not any(map(is_running, pids)), 20)
            assert time.monotonic() - began < trial.compute.grace_seconds + SLACK_SECONDS
        assert not Path(trial.record_file).exists()
    with launched(trial) as group:
        assert group.wait() == 0, group.text()
    assert "goes on after step" in group.text()
    assert results(trial) == uninterrupted

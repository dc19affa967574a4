"""kill -9 of any process of any worker at any moment: the run ends as if nothing had happened."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.records import Records
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from tests.faults.conftest import STEPS, make_task
from tests.faults.groups import Fault, launched, results
from tests.forking.fixtures import started_by

NOTICED_SECONDS = 10.0
"""The promise: a dead process is noticed, and its group ended, within this time."""

SLACK_SECONDS = 10.0
"""Starting and ending processes on a machine that is busy with other tests."""


def plan(seed: int) -> list[Fault]:
    """Five kills of one run, the later ones at later steps; seeds differ in all that is drawn."""
    draw = random.Random(seed)
    phases = ["starting", "training", "saving", "validating", "training"]
    draw.shuffle(phases)
    part = STEPS // (len(phases) + 1)
    return [
        Fault(
            signal.SIGKILL,
            draw.choice(["trainer", "trainer", "supervisor"]),
            draw.randrange(2),
            phase,
            step=part * number + draw.randrange(part // 2),
            delay=draw.uniform(0, 4) if phase == "starting" else draw.uniform(0, 0.01),
        )
        for number, phase in enumerate(phases)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "which"),
    [
        (0, slice(1, 2)),
        pytest.param(0, slice(None), marks=pytest.mark.exhaustive),
        pytest.param(1, slice(None), marks=pytest.mark.exhaustive),
        pytest.param(2, slice(None), marks=pytest.mark.exhaustive),
    ],
)
def test_kills_at_random_moments_change_nothing(
    seed: int, which: slice, task: Callable[..., Task], uninterrupted: str
) -> None:
    killed = task()
    with launched(killed) as group:
        for number, fault in enumerate(plan(seed)[which], start=1):
            when = group.inject(fault)
            noticed = group.wait_for_restart(number) - when
            assert noticed < NOTICED_SECONDS + SLACK_SECONDS, f"{fault}\n{group.text()}"
        assert group.wait() == 0, group.text()
    assert results(killed) == uninterrupted


@pytest.mark.slow
@pytest.mark.exhaustive
def test_kills_in_a_group_of_four_change_nothing(
    records: Records, tmp_path: Path, forking_python: str
) -> None:
    undisturbed = make_task(records, tmp_path / "undisturbed", workers=4)
    with started_by(forking_python):
        LocalLauncher().run(undisturbed)
    killed = make_task(records, tmp_path / "killed", workers=4)
    with launched(killed) as group:
        for number, (target, worker, phase) in enumerate(
            [("trainer", 3, "training"), ("supervisor", 2, "saving")], start=1
        ):
            group.inject(Fault(signal.SIGKILL, target, worker, phase, STEPS * number // 4, 0.005))
            group.wait_for_restart(number)
        assert group.wait() == 0, group.text()
    assert results(killed) == results(undisturbed)


def test_the_plans_cover_every_process_and_phase() -> None:
    faults = [fault for seed in range(3) for fault in plan(seed)]
    assert len(faults) == 15
    assert {(fault.target, fault.worker) for fault in faults} == {
        (target, worker) for target in ("trainer", "supervisor") for worker in (0, 1)
    }
    assert {fault.phase for fault in faults} == {"starting", "training", "saving", "validating"}

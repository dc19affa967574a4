import threading
import time
from collections.abc import Iterator

import pytest

from optduel.components.prepare.threads import in_threads


def test_results_come_in_the_order_of_the_tasks() -> None:
    def work(task: int) -> int:
        time.sleep(0.002 * (task % 3))
        return task * task

    assert list(in_threads(work, range(50), 4, threading.Event())) == [task * task for task in range(50)]


def test_tasks_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    assert list(in_threads(lambda _: meeting.wait(10) >= 0, range(3), 3, threading.Event())) == [True] * 3


def test_tasks_are_taken_as_results_are_used() -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(1000):
            taken += 1
            yield task

    for used, _ in enumerate(in_threads(lambda task: task, tasks(), 2, threading.Event()), start=1):
        assert taken <= used + 4


def test_an_error_ends_the_rest() -> None:
    stopping = threading.Event()
    begun = []

    def first_fails(task: int) -> None:
        begun.append(task)
        if task == 0:
            raise ValueError("task 0")
        assert stopping.wait(10)

    with pytest.raises(ValueError, match="task 0"):
        list(in_threads(first_fails, range(100), 3, stopping))
    assert stopping.is_set()
    assert len(begun) < 10


def test_an_error_is_noticed_while_work_before_it_goes_on_and_is_the_one_that_is_raised() -> None:
    stopping = threading.Event()

    def second_fails(task: int) -> None:
        if task == 1:
            raise ValueError("task 1")
        assert stopping.wait(10), "nobody told this work to stop"
        raise KeyError("stopped")

    with pytest.raises(ValueError, match="task 1"):
        list(in_threads(second_fails, range(100), 2, stopping))


def test_leaving_early_stops_the_rest() -> None:
    stopping = threading.Event()
    others = threading.active_count()
    results = in_threads(lambda task: task, range(1000), 2, stopping)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert stopping.is_set()
    assert threading.active_count() == others

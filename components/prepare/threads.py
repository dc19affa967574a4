"""Runs work in threads: results in order, little in flight, and nothing left running after an error."""

import concurrent.futures
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Task], Result], tasks: Iterable[Task], threads: int, stopping: threading.Event
) -> Iterator[Result]:
    """Yields the results of `work` in the order of `tasks`.

    Args:
        work: called in several threads at once.
        tasks: taken as threads get free, so that no more than two results per thread wait in memory.
        threads: how many.
        stopping: set once some work fails or the iteration ends early, so that long work can end itself.

    Raises:
        Exception: the first one that `work` raised; what other work raised because it was stopped is not it.
    """
    failures: list[Exception] = []

    def watched(task: Task) -> Result:
        try:
            return work(task)
        except Exception as error:
            failures.append(error)
            stopping.set()
            raise

    remaining = iter(tasks)
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        running = deque(pool.submit(watched, task) for task in itertools.islice(remaining, 2 * threads))
        while running:
            first = running.popleft()
            concurrent.futures.wait([first])
            if failures:
                raise failures[0]
            result = first.result()
            running.extend(pool.submit(watched, task) for task in itertools.islice(remaining, 1))
            yield result
    except BaseException:
        stopping.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)

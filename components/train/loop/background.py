"""Work that goes on while a trial trains."""

import concurrent.futures
from collections.abc import Callable


class Background:
    """Does one job at a time, in a thread; what fails there is raised where the next job is given.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
        self._last: concurrent.futures.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the last job is still under way."""
        return self._last is not None and not self._last.done()

    def begin(self, job: Callable[[], None]) -> None:
        """Begins a job, once the one before is done. Raises what that one raised."""
        self.wait()
        self._last = self._executor.submit(job)

    def wait(self, seconds: float | None = None) -> None:
        """Returns when the last job is done. Raises what it raised.

        Args:
            seconds: at most.

        Raises:
            TimeoutError: it is not done by then.
        """
        if self._last:
            self._last.result(seconds)

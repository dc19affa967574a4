"""What a person sees of a run: marked lines, once, with progress; everything in the log."""

import builtins
import errno
import io
import os
import threading

from optduel.components.core import MARK
from optduel.pipeline.local.narrator import Narrator


def narrated(*texts: str, trials: int = 2) -> tuple[str, str]:
    log, screen = io.StringIO(), io.StringIO()
    narrator = Narrator(log, screen, trials)
    for text in texts:
        narrator.write(text)
    return log.getvalue(), screen.getvalue()


def test_only_marked_lines_are_shown_and_all_are_logged() -> None:
    log, screen = narrated("I0000 chatter\n", f"    {MARK}train a, seed 0: epoch 1/2\n")
    assert screen == "train a, seed 0: epoch 1/2\n"
    assert log == f"I0000 chatter\n    {MARK}train a, seed 0: epoch 1/2\n"


def test_lines_may_come_in_pieces() -> None:
    _, screen = narrated("    ", MARK, "compare", "\n")
    assert screen == "compare\n"


def test_each_evaluated_trial_tells_how_far_the_study_is() -> None:
    _, screen = narrated(
        f"{MARK}train a, seed 0\n", f"{MARK}evaluate a, seed 0: 90%\n", f"{MARK}evaluate a, seed 1: 91%\n"
    )
    first, second = screen.splitlines()[1:]
    assert first.startswith("evaluate a, seed 0: 90%  [1/2 trials, about ")
    assert second == "evaluate a, seed 1: 91%  [2/2 trials]"


def test_the_time_of_a_search_is_none_of_the_trials() -> None:
    _, screen = narrated(f"{MARK}train a, setting 3, seed 100: trained\n", f"{MARK}evaluate a, seed 0: 90%\n")
    assert screen.splitlines()[1] == "evaluate a, seed 0: 90%  [1/2 trials]"


def test_threads_do_not_tear_lines_and_a_patched_print_does_not_deadlock() -> None:
    """KFP replaces builtins.print by one that prints indentation first, to the very stream that narrates."""
    log, screen = io.StringIO(), io.StringIO()
    narrator = Narrator(log, screen, 1)
    original = builtins.print

    def indenting(*arguments: object, **options: object) -> None:
        narrator.write("    ")
        original(*arguments, **options)  # type: ignore[call-overload]

    def speak(name: str) -> None:
        for number in range(200):
            builtins.print(f"{MARK}{name} {number}", file=narrator)

    builtins.print = indenting  # type: ignore[assignment]
    try:
        threads = [threading.Thread(target=speak, args=(name,), daemon=True) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    finally:
        builtins.print = original
    said = [line for line in screen.getvalue().splitlines() if line.strip()]
    assert sorted(said) == sorted(f"{name} {number}" for name in "ab" for number in range(200))


class Broken(io.StringIO):
    """A stream whose reader is gone or whose disk is full."""

    name = "place/run.log"

    def __init__(self, number: int, after: int = 0) -> None:
        super().__init__()
        self._number = number
        self._left = after

    def write(self, text: str) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError(self._number, os.strerror(self._number))
        return super().write(text)


def test_a_reader_that_has_gone_does_not_end_the_run() -> None:
    log = io.StringIO()
    narrator = Narrator(log, Broken(errno.EPIPE, after=1), 1)
    for number in range(3):
        narrator.write(f"{MARK}line {number}\n")
    assert log.getvalue() == "".join(f"{MARK}line {number}\n" for number in range(3))


def test_a_log_whose_disk_is_full_is_lost_and_that_is_said_once() -> None:
    screen = io.StringIO()
    narrator = Narrator(Broken(errno.ENOSPC, after=1), screen, 1)
    for number in range(3):
        narrator.write(f"{MARK}line {number}\n")
    narrator.close()
    told, *lines = sorted(screen.getvalue().splitlines(), key=lambda line: line.startswith("line"))
    assert lines == ["line 0", "line 1", "line 2"]
    assert told == "place/run.log: No space left on device; what the run prints from here on is lost"


def test_a_key_file_reaches_neither_log_nor_screen() -> None:
    kind = "PRIVATE " + "KEY"
    lines = [f"-----BEGIN {kind}-----", f"{MARK}MIIEowIBAAKCAQEA", f"-----END {kind}-----", f"{MARK}on"]
    log, screen = narrated(*(f"{line}\n" for line in lines))
    assert log == f"***\n***\n***\n{MARK}on\n"
    assert screen == "on\n"

"""What a person sees of a run: marked lines, once, with progress; everything in the log."""

import builtins
import io
import threading

from components.core.narration import MARK
from pipeline.narrator import Narrator


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

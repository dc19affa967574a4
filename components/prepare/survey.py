"""Reads every image of a source before anything is written, and collects all problems, not just the first."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from optduel.components.core import DataError
from optduel.components.prepare.image import UnusableImageError, check_content, decode
from optduel.components.prepare.progress import ProgressBar
from optduel.components.prepare.sources import Source
from optduel.components.prepare.split import ImageContent
from optduel.components.prepare.threads import in_threads
from optduel.components.records import Skipped

PROBLEMS_SHOWN = 20
"""Lines of a message that lists problems."""

_TASK_IMAGES = 32

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Attributes:
        contents: by position in the source's examples; unusable images are absent.
        problems: everything else, with its reason, ordered by name.
    """

    contents: dict[int, ImageContent]
    problems: tuple[Skipped, ...]


def read_contents(source: Source, threads: int) -> Survey:
    """Hashes every image and looks at its first bytes; decodes nothing."""

    def look(position: int) -> ImageContent:
        example = source.examples[position]
        encoded = source.read(position)
        check_content(encoded, example.id if example.is_named_file else None)
        return ImageContent(hashlib.sha256(encoded).digest(), example.label, example.is_test)

    contents, problems = _look_at(source, range(len(source.examples)), look, "reading", threads)
    return Survey(contents, _by_name([*source.problems, *problems]))


def decode_all(source: Source, survey: Survey, threads: int) -> Survey:
    """Decodes every image completely, and moves those that cannot be from the contents to the problems."""

    def look(position: int) -> ImageContent:
        decode(source.read(position))
        return survey.contents[position]

    contents, problems = _look_at(source, list(survey.contents), look, "checking", threads)
    return Survey(contents, _by_name([*survey.problems, *problems]))


def refuse(source: Source, problems: Sequence[Skipped]) -> None:
    """Refuses a source with problems.

    Raises:
        DataError: with a line for each of the first problems.
    """
    if not problems:
        return
    lines = [f"{problem.image}: {problem.reason}" for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"... and {len(problems) - PROBLEMS_SHOWN} more")
    remedy = "mend them, or leave them out with data.skip_corrupt = true"
    raise DataError("\n".join([f"{source.description}: {len(problems)} problem(s); {remedy}", *lines]))


def _look_at(
    source: Source, positions: Sequence[int], look: Callable[[int], Seen], activity: str, threads: int
) -> tuple[dict[int, Seen], list[Skipped]]:
    seen: dict[int, Seen] = {}
    problems: list[Skipped] = []
    with ProgressBar(activity, len(positions)) as progress:

        def look_at_some(start: int) -> list[tuple[int, Seen | str]]:
            some = positions[start : start + _TASK_IMAGES]
            results = [(position, _result_or_reason(look, position)) for position in some]
            progress.advance(len(some))
            return results

        starts = range(0, len(positions), _TASK_IMAGES)
        for results in in_threads(look_at_some, starts, threads, threading.Event()):
            for position, result in results:
                if isinstance(result, str):
                    problems.append(Skipped(image=source.examples[position].id, reason=result))
                else:
                    seen[position] = result
    return seen, problems


def _result_or_reason(look: Callable[[int], Seen], position: int) -> Seen | str:
    try:
        return look(position)
    except UnusableImageError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _by_name(problems: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.image, problem.reason)))

"""Reads every image of a source before anything is written, and collects all problems, not just the first."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from optduel.components.core import DataError, say
from optduel.components.prepare.image import UnusableImageError, check_content, decoding
from optduel.components.prepare.progress import ProgressBar
from optduel.components.prepare.room import Room
from optduel.components.prepare.sources import Source, read_encoded
from optduel.components.prepare.split import ImageContent
from optduel.components.prepare.threads import in_threads
from optduel.components.records import Skipped

PROBLEMS_SHOWN = 20
"""Lines of a message that lists problems."""

OMISSIONS_TOLD = 5
"""Lines of narration on what is left out."""

_TASK_IMAGES = 32
_FULL_BITS = 16

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
    """Hashes every image and looks at its first bytes; decodes nothing.

    Raises:
        StorageError: an image cannot be read, which is no damage of the image.
    """

    def look(position: int) -> ImageContent:
        example = source.examples[position]
        encoded = read_encoded(source, position)
        check_content(encoded, example.id if example.is_named_file else None)
        return ImageContent(hashlib.sha256(encoded).digest(), example.label, example.is_test)

    contents, problems = _look_at(source, range(len(source.examples)), look, "reading", threads)
    return Survey(contents, _by_name([*source.problems, *problems]))


def decode_all(source: Source, survey: Survey, threads: int, room: Room) -> Survey:
    """Decodes every image completely, and moves those that cannot be from the contents to the problems.

    Args:
        room: of memory, for the images that are decoded at a time.

    Raises:
        DataError: the 16-bit images hold values of fewer bits.
        StorageError: an image cannot be read.
    """

    def look(position: int) -> int | None:
        with decoding(read_encoded(source, position), room) as decoded:
            return decoded.peak

    peaks, problems = _look_at(source, list(survey.contents), look, "checking", threads)
    _refuse_fewer_bits(source, {position: peak for position, peak in peaks.items() if peak is not None})
    contents = {position: survey.contents[position] for position in peaks}
    return Survey(contents, _by_name([*survey.problems, *problems]))


def _refuse_fewer_bits(source: Source, peaks: Mapping[int, int]) -> None:
    """Refuses 16-bit images of which none uses the highest bit: sensors of 10 to 14 bits are kept so.

    A record keeps the high byte, which would be nearly black.
    """
    if not peaks:
        return
    brightest = max(peaks, key=lambda position: peaks[position])
    bits = 8 + peaks[brightest].bit_length()
    if bits < _FULL_BITS:
        raise DataError(
            f"{source.description}: {len(peaks)} image(s) of 16 bits hold values of {bits} bits at most (in "
            f"{source.examples[brightest].id}); multiply them by {2 ** (_FULL_BITS - bits)}, so that white "
            "is 65535, or save them with 8 bits"
        )


def tell_omissions(skipped: Sequence[Skipped]) -> None:
    """Says what is in the source and not in the records; the manifest names all."""
    if not skipped:
        return
    say(f"prepare: left out {len(skipped)} file(s), which the manifest lists with reasons:")
    for entry in skipped[:OMISSIONS_TOLD]:
        say(f"prepare:   {entry.image}: {entry.reason}")
    if len(skipped) > OMISSIONS_TOLD:
        say(f"prepare:   ... and {len(skipped) - OMISSIONS_TOLD} more")


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


def _by_name(problems: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.image, problem.reason)))

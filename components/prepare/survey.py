"""Looks at every image of a source, and collects all problems, not just the first."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from optduel.components.core import DataError, say
from optduel.components.prepare.decoder import LEAST_PIXELS, Extract
from optduel.components.prepare.decoders import Decoders
from optduel.components.prepare.formats import promised_format
from optduel.components.prepare.image import UnusableImageError, check_content
from optduel.components.prepare.progress import ProgressBar
from optduel.components.prepare.reading import Images
from optduel.components.prepare.resemblance import HASH_BYTES, perceptual_hashes
from optduel.components.prepare.sources import Source
from optduel.components.prepare.split import ImageContent
from optduel.components.prepare.threads import in_threads
from optduel.components.records import Skipped

PROBLEMS_SHOWN = 20
"""Lines of a message that lists problems."""

OMISSIONS_TOLD = 5
"""Lines of narration on what is left out."""

_NAMES_SHOWN = 3
_HASHED_TOGETHER = 16
"""Images. Arrays of more are given back to the kernel each time, and their pages fetched anew."""
_TASK_IMAGES = 32
_FULL_BITS = 16

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Attributes:
        contents: by position in the source's examples; unusable images are absent.
        problems: everything else, with its reason, ordered by name.
        formats: of all images that have one, by position.
    """

    contents: dict[int, ImageContent]
    problems: tuple[Skipped, ...]
    formats: dict[int, str]

    def without(self, source: Source, reasons: dict[int, str]) -> "Survey":
        """The survey with images moved to the problems, for these reasons."""
        contents = {
            position: content for position, content in self.contents.items() if position not in reasons
        }
        problems = [_skipped(source, position, reason) for position, reason in reasons.items()]
        return Survey(contents, _by_name([*self.problems, *problems]), self.formats)


class Traits:
    """What decoding has shown of images, by position.

    Args:
        count: images of the source.

    Attributes:
        peaks: int16, the greatest high byte of a 16-bit image; -1 for other depths.
        have_more: bool, whether it is the first of several frames or pages.
        have_hash: bool, whether there is a hash.
        sizes: int32 [count, 2], width and height.
    """

    def __init__(self, count: int) -> None:
        self.peaks = np.full(count, -1, np.int16)
        self.have_more = np.zeros(count, np.bool_)
        self._hashes = np.zeros((count, HASH_BYTES), np.uint8)
        self._waiting: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()
        self.have_hash = np.zeros(count, np.bool_)
        self.sizes = np.zeros((count, 2), np.int32)

    def note(self, position: int, extract: Extract) -> None:
        """Takes what a decoded image shows."""
        if extract.peak is not None:
            self.peaks[position] = extract.peak
        self.have_more[position] = extract.has_more
        self.sizes[position] = extract.size
        if extract.small is None:
            return
        with self._lock:
            self._waiting.append((position, extract.small))
            full = self._take() if len(self._waiting) >= _HASHED_TOGETHER else []
        self._hash(full)

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """The perceptual hashes, uint8 [count, HASH_BYTES]."""
        with self._lock:
            rest = self._take()
        self._hash(rest)
        return self._hashes

    def _take(self) -> list[tuple[int, bytes]]:
        taken, self._waiting = self._waiting, []
        return taken

    def _hash(self, taken: Sequence[tuple[int, bytes]]) -> None:
        if taken:
            positions = [position for position, _ in taken]
            small = np.frombuffer(b"".join(small for _, small in taken), np.uint8)
            self._hashes[positions] = perceptual_hashes(small.reshape(-1, LEAST_PIXELS, LEAST_PIXELS))
            self.have_hash[positions] = True


def read_contents(images: Images, threads: int) -> Survey:
    """Hashes every image and looks at its first bytes; decodes nothing.

    Raises:
        StorageError: an image cannot be read, which is no damage of the image.
    """
    source = images.source

    def look(some: Sequence[int]) -> Iterator[tuple[ImageContent, str] | UnusableImageError]:
        for position in some:
            example = source.examples[position]
            encoded = images.read(position)
            try:
                content = check_content(encoded)
            except UnusableImageError as error:
                yield error
                continue
            digest = hashlib.sha256(encoded).digest()
            yield ImageContent(digest, example.label, example.split, example.group), content

    seen, reasons = _look_at(range(len(source.examples)), look, "reading", threads)
    problems = [_skipped(source, position, reason) for position, reason in reasons.items()]
    return Survey(
        {position: content for position, (content, _) in seen.items()},
        _by_name([*source.problems, *problems]),
        {position: found for position, (_, found) in seen.items()},
    )


def decode_all(images: Images, survey: Survey, traits: Traits, threads: int, decoders: Decoders) -> Survey:
    """Decodes every image completely, and moves those that cannot be from the contents to the problems.

    Args:
        traits: receives what the images show.

    Raises:
        StorageError: an image cannot be read.
    """

    def look(some: Sequence[int]) -> Iterator[UnusableImageError | None]:
        extracts = decoders.decode(images.again(some, survey.contents), is_written=False)
        for position, extract in zip(some, extracts, strict=True):
            if isinstance(extract, UnusableImageError):
                yield extract
            else:
                traits.note(position, extract)
                yield None

    _, reasons = _look_at(list(survey.contents), look, "checking", threads)
    return survey.without(images.source, reasons)


def remarks(source: Source, survey: Survey, traits: Traits) -> list[str]:
    """What is odd about images and no problem, a sentence each."""
    names = source.examples
    misnamed = [
        f"{names[position].id} is {found}"
        for position, found in survey.formats.items()
        if names[position].is_named_file and found != promised_format(names[position].id)
    ]
    first_only = [names[position].id for position in survey.contents if traits.have_more[position]]
    return [
        *_sentence(misnamed, "has the ending of another format, and is read as what it is"),
        *_sentence(first_only, "holds several frames or pages, of which the first is taken"),
    ]


def _sentence(names: Sequence[str], words: str) -> list[str]:
    if not names:
        return []
    extract = sorted(names)[:_NAMES_SHOWN]
    more = f" and {len(names) - len(extract):,} more" if len(names) > len(extract) else ""
    each = "1 image" if len(names) == 1 else f"{len(names):,} images, each of which"
    return [f"{each} {words}: {', '.join(extract)}{more}."]


def refuse_fewer_bits(source: Source, survey: Survey, traits: Traits) -> None:
    """Refuses 16-bit images of which none uses the highest bit: sensors of 10 to 14 bits are kept so.

    A record keeps the high byte, which would be nearly black.

    Raises:
        DataError: the 16-bit images hold values of fewer bits.
    """
    deep = [position for position in survey.contents if traits.peaks[position] >= 0]
    if not deep:
        return
    brightest = max(deep, key=lambda position: traits.peaks[position])
    bits = 8 + int(traits.peaks[brightest]).bit_length()
    if bits < _FULL_BITS:
        raise DataError(
            f"{source.description}: {len(deep)} image(s) of 16 bits hold values of {bits} bits at most (in "
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
    positions: Sequence[int],
    look: Callable[[Sequence[int]], Iterable[Seen | UnusableImageError]],
    activity: str,
    threads: int,
) -> tuple[dict[int, Seen], dict[int, str]]:
    """What `look` gives of each position, and the reasons of those that are unusable."""
    seen: dict[int, Seen] = {}
    reasons: dict[int, str] = {}
    with ProgressBar(activity, len(positions)) as progress:

        def look_at_some(start: int) -> list[tuple[int, Seen | UnusableImageError]]:
            some = positions[start : start + _TASK_IMAGES]
            found = list(zip(some, look(some), strict=True))
            progress.advance(len(some))
            return found

        starts = range(0, len(positions), _TASK_IMAGES)
        for found in in_threads(look_at_some, starts, threads, threading.Event()):
            for position, each in found:
                if isinstance(each, UnusableImageError):
                    reasons[position] = str(each)
                else:
                    seen[position] = each
    return seen, reasons


def _skipped(source: Source, position: int, reason: str) -> Skipped:
    return Skipped(image=source.examples[position].id, reason=reason)


def _by_name(problems: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.image, problem.reason)))

"""Divides images into training, validation and test split: stratified, disjoint, complete, free of leaks.

Everything depends on content alone: neither file names nor the order of the listing change the result.
"""

import functools
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from optduel.components.core import DataError
from optduel.components.records import SPLITS
from optduel.components.settings import Split


@dataclass(frozen=True, slots=True)
class ImageContent:
    """What an image is, apart from its name.

    Attributes:
        digest: SHA-256 of the encoded image.
        label: index of its class.
        split: that the source itself declares.
        group: images of one group never lie in two splits.
    """

    digest: bytes
    label: int
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Division:
    """Images by their positions in the source.

    Attributes:
        splits: the images of each split, in the order of the records; empty splits are absent.
        duplicates: sets of images with identical content.
        removed: images that repeat one of a declared split, with that one; they are in no split.
        set_aside: images that look like one of a declared split, with that one; they are in no split.
        drawn: the splits that images were drawn for; the others are the source's own.
        deviation: how far a split's share of a class is from what was asked for, at most, 0..1.
    """

    splits: dict[str, list[int]]
    duplicates: list[list[int]]
    removed: dict[int, int]
    set_aside: dict[int, int]
    drawn: tuple[str, ...]
    deviation: float


_PRIORITIES = (None, "train", "validation", "test")
"""Of two copies in different splits the one in the later of these stays: a test split is left alone."""


def divide(
    contents: Mapping[int, ImageContent],
    classes: Sequence[str],
    split: Split,
    together: Iterable[tuple[int, int]] = (),
) -> Division:
    """Assigns every image to a split; copies of one image, and images of one group, to the same.

    Each class is divided by largest remainders (Hamilton's method), so that a split's share of a class is
    exact to one image, unless copies or groups have to stay together or a split would go without. Splits that
    the source declares stay as they are; those that it lacks are drawn from its training images. Images that
    repeat one of a declared split leave the others.

    Args:
        contents: the images by position.
        classes: names of the classes, for messages.
        split: fractions, and the seed of assignment and order.
        together: pairs of images that must not lie in two splits.

    Raises:
        DataError: a class has no image in a split.
    """
    fractions = {"train": split.train, "validation": split.validation, "test": split.test}
    drawn = _drawn(contents, fractions)
    images = {
        position: replace(content, split=None) if content.split in drawn else content
        for position, content in contents.items()
    }
    copies = _copies(images)
    removed = {
        position: positions[0]
        for positions in copies
        for position in positions
        if images[position].split != images[positions[0]].split
    }
    together = list(together)
    set_aside = _set_aside(images, together, removed)
    units = _units(images, together, {*removed, *set_aside})
    assigned: dict[str, list[int]] = {name: [] for name in SPLITS}
    for position, content in images.items():
        if content.split is not None and position not in removed and position not in set_aside:
            assigned[content.split].append(position)
    shares = _open_shares(drawn, fractions)
    deviation = 0.0
    if units:
        placing = _Placing(units, images, shares, split.seed)
        for name, unit in placing.places():
            assigned[name].extend(unit)
        deviation = placing.deviation
    splits = {name: _in_record_order(assigned[name], images, split.seed) for name in SPLITS if assigned[name]}
    wanted = [name for name in SPLITS if assigned[name] or shares.get(name)]
    _refuse_missing_classes(wanted, splits, images, classes, units)
    duplicates = [positions for positions in copies if len(positions) > 1]
    return Division(splits, duplicates, removed, set_aside, drawn, deviation)


def _drawn(contents: Mapping[int, ImageContent], fractions: Mapping[str, float]) -> tuple[str, ...]:
    """The splits that images have to be drawn for: those that are wanted and the source lacks, and train."""
    declared = {content.split for content in contents.values()} - {None}
    lacking = [name for name in SPLITS if fractions[name] and name not in declared]
    if not lacking:
        return ()
    return tuple(name for name in SPLITS if name in lacking or name == "train")


def _open_shares(drawn: Sequence[str], fractions: Mapping[str, float]) -> dict[str, float]:
    """The fractions of the splits that images are drawn for; they sum to 1."""
    if all(name in drawn for name in SPLITS if fractions[name]):
        return {name: fraction for name, fraction in fractions.items() if fraction}
    total = sum(fractions[name] for name in drawn)
    return {name: fractions[name] / total for name in drawn}


def _copies(contents: Mapping[int, ImageContent]) -> list[list[int]]:
    """Positions by content; those that stay, if they are of several splits, come first in each set."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for position, content in contents.items():
        by_digest[content.digest].append(position)
    return [
        sorted(positions, key=lambda position: -_PRIORITIES.index(contents[position].split))
        for positions in by_digest.values()
    ]


def _set_aside(
    contents: Mapping[int, ImageContent], together: Iterable[tuple[int, int]], removed: Mapping[int, int]
) -> dict[int, int]:
    """Of each pair in two splits, of which one at least is declared, the image that has to go."""
    set_aside: dict[int, int] = {}
    for pair in together:
        low, high = sorted(pair, key=lambda position: _PRIORITIES.index(contents[position].split))
        if contents[low].split != contents[high].split and low not in removed and high not in removed:
            set_aside.setdefault(low, high)
    return set_aside


def _units(
    contents: Mapping[int, ImageContent], together: Iterable[tuple[int, int]], gone: set[int]
) -> list[list[int]]:
    """The undeclared images in sets that have to stay together: copies, groups, and given pairs."""
    open_images = [
        position for position, entry in contents.items() if entry.split is None and position not in gone
    ]
    known: dict[int, int] = {position: position for position in open_images}

    def root(position: int) -> int:
        while known[position] != position:
            known[position] = known[known[position]]
            position = known[position]
        return position

    first: dict[Hashable, int] = {}
    for position in open_images:
        entry = contents[position]
        for key in (entry.digest, entry.group):
            if key is not None:
                known[root(position)] = root(first.setdefault(key, position))
    for one, other in together:
        if one in known and other in known:
            known[root(one)] = root(other)
    units: dict[int, list[int]] = defaultdict(list)
    for position in open_images:
        units[root(position)].append(position)
    return list(units.values())


class _Placing:
    """Gives units to splits: each to the one that lacks most images of its classes, largest units first.

    Units of several classes come before the others, which even out what they leave. A class with only as
    many units left as there are splits without an image of it gives one to each of these.

    Args:
        units: sets of positions.
        contents: the images.
        fractions: of the splits.
        seed: decides between units of one size.

    Attributes:
        deviation: of a split's share of a class from its fraction, at most, once all are placed.
    """

    def __init__(
        self,
        units: Sequence[list[int]],
        contents: Mapping[int, ImageContent],
        fractions: Mapping[str, float],
        seed: int,
    ) -> None:
        self._fractions = fractions
        self._contents = contents
        single = {content.label: Counter({content.label: 1}) for content in contents.values()}
        self._counts = [
            single[contents[unit[0]].label] if len(unit) == 1 else self._classes_of(unit) for unit in units
        ]
        self._totals: Counter[int] = Counter()
        for counts in self._counts:
            self._totals.update(counts)
        self._lacking = {label: _shares(total, fractions) for label, total in self._totals.items()}
        self._left = Counter(label for counts in self._counts for label in counts)
        self._empty = {label: set(shares) for label, shares in self._lacking.items()}
        keys = [
            min(_keyed_hash("assign", seed, digest) for digest in {contents[each].digest for each in unit})
            for unit in units
        ]
        self._units = units
        self._order = sorted(
            range(len(units)),
            key=lambda unit: (self._turn(self._counts[unit]), -len(units[unit]), keys[unit]),
        )
        self._placed: dict[str, Counter[int]] = {name: Counter() for name in fractions}
        self.deviation = 0.0

    def _classes_of(self, unit: Sequence[int]) -> Counter[int]:
        labels = [self._contents[position].label for position in unit]
        if len({self._contents[position].digest for position in unit}) == 1:
            # Copies with several labels count as the first class's.
            return Counter({min(labels): len(labels)})
        return Counter(labels)

    @staticmethod
    def _turn(counts: Counter[int]) -> int:
        return -1 if len(counts) > 1 else min(counts)

    def places(self) -> Iterator[tuple[str, list[int]]]:
        """Yields each unit's split, and the unit."""
        for unit in self._order:
            counts = self._counts[unit]
            name = max(self._candidates(counts), key=self._need_of(counts))
            for label, count in counts.items():
                self._lacking[label][name] -= count
                self._placed[name][label] += count
                self._left[label] -= 1
                self._empty[label].discard(name)
            yield name, self._units[unit]
        self.deviation = max(
            abs(self._placed[name][label] / total - fraction)
            for label, total in self._totals.items()
            for name, fraction in self._fractions.items()
        )

    def _candidates(self, counts: Counter[int]) -> list[str]:
        names = list(self._fractions)
        for label in counts:
            if self._left[label] == len(self._empty[label]):
                names = [name for name in names if name in self._empty[label]] or names
        return names

    def _need_of(self, counts: Counter[int]) -> Callable[[str], float]:
        return lambda name: sum(
            count * self._lacking[label][name] / self._totals[label] for label, count in counts.items()
        )


def _shares(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Shares of `count` images by largest remainders; none is 0 as long as there is an image for each."""
    quotas = {name: count * fraction for name, fraction in fractions.items() if fraction}
    shares = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: shares[name] - quotas[name])
    for name in itertools.islice(by_remainder, count - sum(shares.values())):
        shares[name] += 1
    for name in shares:
        if not shares[name] and count >= len(shares):
            shares[max(shares, key=lambda candidate: shares[candidate])] -= 1
            shares[name] = 1
    return shares


def _in_record_order(positions: Iterable[int], contents: Mapping[int, ImageContent], seed: int) -> list[int]:
    """A fixed permutation that mixes the classes; equal content with different labels is ordered by label."""

    def key(position: int) -> tuple[bytes, int]:
        content = contents[position]
        return _keyed_hash("order", seed, content.digest), content.label

    return sorted(positions, key=key)


def _keyed_hash(purpose: str, seed: int, digest: bytes) -> bytes:
    return hashlib.blake2b(digest, key=_key_of(purpose, seed), digest_size=16).digest()


@functools.lru_cache(maxsize=8)
def _key_of(purpose: str, seed: int) -> bytes:
    return hashlib.sha256(f"{purpose} {seed}".encode()).digest()


def _refuse_missing_classes(
    names: Sequence[str],
    splits: Mapping[str, Sequence[int]],
    contents: Mapping[int, ImageContent],
    classes: Sequence[str],
    units: Sequence[Sequence[int]],
) -> None:
    counts = {name: Counter(contents[position].label for position in splits.get(name, ())) for name in names}
    lacking = [label for label in range(len(classes)) if not all(count[label] for count in counts.values())]
    if not lacking:
        return
    sets = Counter(label for unit in units for label in {contents[position].label for position in unit})
    images = Counter(content.label for content in contents.values() if content.split is None)
    lines = [
        f"class {classes[label]}: "
        + ", ".join(f"{name} {count[label]}" for name, count in counts.items())
        + (
            f" (its {images[label]} images have to stay together in {sets[label]} set(s))"
            if sets[label] < min(images[label], len(names))
            else ""
        )
        for label in lacking
    ]
    rule = "every class needs an image in every split; add images or change data.split"
    raise DataError("\n".join([f"data.split: {rule}", *lines]))

"""Divides images into training, validation and test split: stratified, disjoint, complete, free of leaks.

Everything depends on content alone: neither file names nor the order of the listing change the result.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optduel.components.core import DataError
from optduel.components.records import SPLITS
from optduel.components.settings import Split


@dataclass(frozen=True, slots=True)
class ImageContent:
    """What an image is, apart from its name.

    Attributes:
        digest: SHA-256 of the encoded image.
        label: index of its class.
        is_test: it belongs to a test split that the source itself declares.
    """

    digest: bytes
    label: int
    is_test: bool = False


@dataclass(frozen=True)
class Division:
    """Images by their positions in the source.

    Attributes:
        splits: the images of each split, in the order of the records; empty splits are absent.
        duplicates: sets of images with identical content.
        removed: images that repeat one of a declared test split, with that one; they are in no split.
    """

    splits: dict[str, list[int]]
    duplicates: list[list[int]]
    removed: dict[int, int]


def divide(contents: Mapping[int, ImageContent], classes: Sequence[str], split: Split) -> Division:
    """Assigns every image to a split, copies of one image to the same.

    Each class is divided by largest remainders (Hamilton's method), so that a split's share of a class is
    exact to one image, unless copies have to stay together or a split would go without. A test split that
    the source declares stays as it is, and images that repeat one of it leave the others.

    Args:
        contents: the images by position.
        classes: names of the classes, for messages.
        split: fractions, and the seed of assignment and order.

    Raises:
        DataError: a class has no image in a split.
    """
    copies = _copies(contents)
    removed = {
        position: tests[0]
        for positions in copies
        if (tests := [position for position in positions if contents[position].is_test])
        for position in positions
        if not contents[position].is_test
    }
    units: dict[int, list[list[int]]] = defaultdict(list)
    for positions in copies:
        if not contents[positions[0]].is_test:
            units[min(contents[position].label for position in positions)].append(positions)
    fractions = {"train": split.train, "validation": split.validation, "test": split.test}
    assigned: dict[str, list[int]] = {name: [] for name in SPLITS}
    assigned["test"] = [position for position, content in contents.items() if content.is_test]
    for label in sorted(units):
        for name, positions in _assign_class(units[label], contents, fractions, split.seed):
            assigned[name].extend(positions)
    splits = {
        name: _in_record_order(assigned[name], contents, split.seed) for name in SPLITS if assigned[name]
    }
    _refuse_missing_classes(
        [name for name in SPLITS if assigned[name] or fractions[name]], splits, contents, classes
    )
    return Division(splits, [positions for positions in copies if len(positions) > 1], removed)


def _copies(contents: Mapping[int, ImageContent]) -> list[list[int]]:
    """Positions by content; images of a declared test split come first in each set."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for position, content in contents.items():
        by_digest[content.digest].append(position)
    return [
        sorted(positions, key=lambda position: not contents[position].is_test)
        for positions in by_digest.values()
    ]


def _assign_class(
    units: Iterable[list[int]],
    contents: Mapping[int, ImageContent],
    fractions: Mapping[str, float],
    seed: int,
) -> Iterable[tuple[str, list[int]]]:
    """The split of each unit, a set of copies: the one that lacks most images, largest units first."""
    ordered = sorted(
        units, key=lambda unit: (-len(unit), _keyed_hash("assign", seed, contents[unit[0]].digest))
    )
    lacking = _shares(sum(map(len, ordered)), fractions)
    for unit in ordered:
        name = max(lacking, key=lambda candidate: lacking[candidate])
        lacking[name] -= len(unit)
        yield name, unit


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
    key = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return hashlib.blake2b(digest, key=key, digest_size=16).digest()


def _refuse_missing_classes(
    names: Sequence[str],
    splits: Mapping[str, Sequence[int]],
    contents: Mapping[int, ImageContent],
    classes: Sequence[str],
) -> None:
    counts = {name: Counter(contents[position].label for position in splits.get(name, ())) for name in names}
    problems = [
        f"class {class_name}: " + ", ".join(f"{name} {count[label]}" for name, count in counts.items())
        for label, class_name in enumerate(classes)
        if not all(count[label] for count in counts.values())
    ]
    if problems:
        rule = "every class needs an image in every split; add images or change data.split"
        raise DataError("\n".join([f"data.split: {rule}", *problems]))

import hashlib
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import DataError
from optduel.components.prepare.split import Division, ImageContent, divide
from optduel.components.settings import Split

FRACTIONS = {
    "thirds": Split(train=0.5, validation=0.25, test=0.25),
    "usual": Split(train=0.8, validation=0.1, test=0.1),
    "no test": Split(train=0.8, validation=0.2, test=0),
    "uneven": Split(train=0.63, validation=0.21, test=0.16, seed=7),
}


def content(number: int, label: int, is_test: bool = False) -> ImageContent:
    return ImageContent(hashlib.sha256(str(number).encode()).digest(), label, "test" if is_test else None)


def class_names(contents: dict[int, ImageContent]) -> list[str]:
    return [f"class-{label}" for label in range(1 + max(entry.label for entry in contents.values()))]


def split_of_each(division: Division) -> dict[int, str]:
    return {position: name for name, positions in division.splits.items() for position in positions}


def unique_contents(counts: list[int]) -> dict[int, ImageContent]:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return {position: content(position, label) for position, label in enumerate(labels)}


sizes = st.lists(st.integers(3, 60), min_size=1, max_size=5)
fractions = st.sampled_from(list(FRACTIONS.values()))


@given(sizes=sizes, split=fractions)
def test_splits_are_disjoint_and_complete(sizes: list[int], split: Split) -> None:
    contents = unique_contents(sizes)
    division = divide(contents, class_names(contents), split)
    assigned = [position for positions in division.splits.values() for position in positions]
    assert sorted(assigned) == sorted(contents)
    assert set(division.splits) == {"train", "validation", "test"} - (set() if split.test else {"test"})


@given(sizes=sizes, split=fractions)
def test_every_class_is_divided_to_within_one_image(sizes: list[int], split: Split) -> None:
    contents = unique_contents(sizes)
    division = divide(contents, class_names(contents), split)
    wanted = {"train": split.train, "validation": split.validation, "test": split.test}
    smallest = min(fraction for fraction in wanted.values() if fraction)
    for label, size in enumerate(sizes):
        counts = {
            name: sum(contents[position].label == label for position in positions)
            for name, positions in division.splits.items()
        }
        assert min(counts.values()) >= 1
        for name, count in counts.items():
            # A class too small for its smallest share still has an image in every split.
            if size * smallest >= 1:
                assert abs(count - size * wanted[name]) < 1, (counts, size)


@given(
    labelled=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=8, max_size=60),
    split=fractions,
)
def test_copies_share_a_split(labelled: list[tuple[int, int]], split: Split) -> None:
    # Twenty images of each class besides, so that no class lacks an image in a split.
    pairs = labelled + [(100 + number, number % 2) for number in range(40)]
    contents = {position: content(number, label) for position, (number, label) in enumerate(pairs)}
    division = divide(contents, ["a", "b"], split)
    name_of = split_of_each(division)
    assert sorted(name_of) == sorted(contents)
    by_digest: dict[bytes, list[int]] = {}
    for position, entry in contents.items():
        by_digest.setdefault(entry.digest, []).append(position)
    for positions in by_digest.values():
        assert len({name_of[position] for position in positions}) == 1
    groups = [positions for positions in by_digest.values() if len(positions) > 1]
    assert sorted(map(sorted, division.duplicates)) == sorted(groups)


@given(sizes=sizes, split=fractions, random=st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(sizes: list[int], split: Split, random: Random) -> None:
    contents = unique_contents(sizes)
    contents |= {1000 + position: entry for position, entry in list(contents.items())[::5]}  # copies
    shuffled = list(contents.values())
    random.shuffle(shuffled)
    other = dict(enumerate(shuffled))
    names = class_names(contents)
    first, second = divide(contents, names, split), divide(other, names, split)
    for name in first.splits:
        in_order = [(contents[position].digest, contents[position].label) for position in first.splits[name]]
        assert in_order == [
            (other[position].digest, other[position].label) for position in second.splits[name]
        ]


def test_the_seed_changes_the_assignment() -> None:
    contents = unique_contents([50, 50])
    first = divide(contents, ["a", "b"], Split(seed=0))
    second = divide(contents, ["a", "b"], Split(seed=10**100))
    assert set(first.splits["test"]) != set(second.splits["test"])
    assert Counter(split_of_each(first).values()) == Counter(split_of_each(second).values())


def test_classes_are_mixed_in_the_order_of_the_records() -> None:
    contents = unique_contents([100, 100])
    labels = [contents[position].label for position in divide(contents, ["a", "b"], Split()).splits["train"]]
    changes = sum(first != second for first, second in zip(labels, labels[1:], strict=False))
    assert 60 < changes < 100  # 160 records; a fair coin changes about every second time


def test_copies_of_different_classes_stay_together() -> None:
    contents = unique_contents([20, 20]) | {100: content(0, 1)}  # image 0 is of class 0, too
    name_of = split_of_each(divide(contents, ["a", "b"], Split()))
    assert name_of[0] == name_of[100]


def test_a_declared_test_split_stays_and_what_repeats_it_is_removed() -> None:
    contents = unique_contents([20, 20])
    contents |= {
        100: content(5, 0, is_test=True),
        101: content(500, 1, is_test=True),
        102: content(30, 1, is_test=True),
    }
    division = divide(contents, ["a", "b"], Split(train=0.8, validation=0.2, test=0))
    assert sorted(division.splits["test"]) == [100, 101, 102]
    assert division.removed == {5: 100, 30: 102}
    used = sorted(division.splits["train"] + division.splits["validation"])
    assert used == [position for position in range(40) if position not in (5, 30)]


def test_a_class_that_cannot_be_in_every_split_is_named_with_its_counts() -> None:
    with pytest.raises(DataError) as caught:
        divide(unique_contents([10, 2]), ["daisy", "rose"], Split())
    assert "every class needs an image in every split" in str(caught.value)
    assert "class rose: train 2, validation 0, test 0" in str(caught.value)
    assert "daisy" not in str(caught.value)


def test_a_class_of_copies_cannot_be_divided() -> None:
    contents = unique_contents([10]) | {100 + copy: content(99, 1) for copy in range(9)}
    with pytest.raises(DataError, match="class b: train 9, validation 0, test 0"):
        divide(contents, ["a", "b"], Split())


def test_three_images_are_enough_for_three_splits() -> None:
    division = divide(unique_contents([3, 3]), ["a", "b"], Split())
    assert {name: len(positions) for name, positions in division.splits.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }


def test_nothing_left_is_named() -> None:
    with pytest.raises(DataError, match="class a: train 0, validation 0, test 0"):
        divide({}, ["a"], Split())

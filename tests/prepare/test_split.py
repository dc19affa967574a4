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


# --- groups, declared splits, images that belong together ---------------------------------------------

grouped = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=10, max_size=120)


def grouped_contents(rows: list[tuple[int, int]], is_pure: bool) -> dict[int, ImageContent]:
    """Images in groups, of one class each where they are pure, and 30 of each class in no group."""
    contents = {}
    for number, (group, label) in enumerate(rows):
        label = group % 3 if is_pure else label
        contents[number] = ImageContent(content(number, 0).digest, label, None, f"group {group}")
    return contents | {1000 + number: content(1000 + number, number % 3) for number in range(90)}


@given(rows=grouped, split=fractions, is_pure=st.booleans())
def test_no_group_lies_in_two_splits_and_shares_stay_within_the_largest_group(
    rows: list[tuple[int, int]], split: Split, is_pure: bool
) -> None:
    contents = grouped_contents(rows, is_pure)
    division = divide(contents, ["a", "b", "c"], split)
    name_of = split_of_each(division)
    assert sorted(name_of) == sorted(contents)
    sizes: Counter[str] = Counter()
    for group in {entry.group for entry in contents.values()} - {None}:
        members = [position for position, entry in contents.items() if entry.group == group]
        assert len({name_of[position] for position in members}) == 1
        sizes[str(group)] = len(members)
    wanted = {"train": split.train, "validation": split.validation, "test": split.test}
    for label in range(3):
        total = sum(entry.label == label for entry in contents.values())
        for name, fraction in wanted.items():
            count = sum(contents[position].label == label for position in division.splits.get(name, ()))
            assert abs(count - fraction * total) <= max(sizes.values()) + 1
            assert abs(count / total - fraction) <= division.deviation + 1e-9


@given(rows=grouped, random=st.randoms(use_true_random=False))
def test_names_of_groups_and_order_do_not_matter(rows: list[tuple[int, int]], random: Random) -> None:
    contents = grouped_contents(rows, is_pure=False)
    order = list(contents)
    random.shuffle(order)
    other = {
        position: ImageContent(
            contents[old].digest,
            contents[old].label,
            None,
            contents[old].group and f"renamed {contents[old].group}"[::-1],
        )
        for position, old in enumerate(order)
    }
    first, second = divide(contents, ["a", "b", "c"], Split()), divide(other, ["a", "b", "c"], Split())
    for name, positions in first.splits.items():
        digests = [contents[position].digest for position in positions]
        assert digests == [other[position].digest for position in second.splits[name]]


@given(
    pairs=st.lists(st.tuples(st.integers(0, 89), st.integers(0, 89)), max_size=20),
    tests=st.sets(st.integers(0, 89), max_size=20),
)
def test_pairs_that_belong_together_never_lie_in_two_splits(
    pairs: list[tuple[int, int]], tests: set[int]
) -> None:
    contents = {number: content(number, number % 3, number in tests) for number in range(90)}
    contents |= {100 + number: content(100 + number, number % 3, is_test=True) for number in range(3)}
    split = Split(train=0.7, validation=0.3, test=0)
    division = divide(contents, ["a", "b", "c"], split, [pair for pair in pairs if pair[0] != pair[1]])
    name_of = split_of_each(division)
    assert sorted([*name_of, *division.set_aside]) == sorted(contents)
    assert {position for position in contents if name_of.get(position) == "test"} == tests | {100, 101, 102}
    for one, other in pairs:
        if one in name_of and other in name_of:
            assert name_of[one] == name_of[other]


def test_missing_splits_are_drawn_from_the_declared_training_images() -> None:
    def declared(names: tuple[str, ...]) -> dict[int, ImageContent]:
        return {
            number: ImageContent(content(number, 0).digest, number % 2, names[number % len(names)])
            for number in range(120)
        }

    for names, drawn, counts in (
        (("train", "test", "train"), ("train", "validation"), {"train": 71, "validation": 9, "test": 40}),
        (("train", "validation", "train"), ("train", "test"), {"train": 71, "validation": 40, "test": 9}),
        (("train",), ("train", "validation", "test"), {"train": 96, "validation": 12, "test": 12}),
        (("train", "validation", "test"), (), {"train": 40, "validation": 40, "test": 40}),
    ):
        division = divide(declared(names), ["a", "b"], Split())
        assert division.drawn == drawn
        sizes = {name: len(positions) for name, positions in division.splits.items()}
        assert all(abs(sizes[name] - counts[name]) <= 1 for name in counts), (names, sizes)


def test_a_class_in_too_few_groups_is_named_with_them() -> None:
    contents = unique_contents([20]) | {
        100 + number: ImageContent(content(100 + number, 1).digest, 1, None, f"film {number % 2}")
        for number in range(10)
    }
    with pytest.raises(DataError, match=r"class b: .* \(its 10 images have to stay together in 2 set\(s\)\)"):
        divide(contents, ["a", "b"], Split())


def test_three_groups_of_a_class_go_to_three_splits() -> None:
    contents = unique_contents([30]) | {
        100 + number: ImageContent(content(100 + number, 1).digest, 1, None, f"film {number // 4}")
        for number in range(12)
    }
    counts = [
        sum(contents[position].label for position in positions)
        for positions in divide(contents, ["a", "b"], Split()).splits.values()
    ]
    assert counts == [4, 4, 4]


def test_copies_in_two_declared_splits_stay_in_the_later_one() -> None:
    contents = {
        number: ImageContent(content(number % 27, 0).digest, number % 27 % 3, name)
        for number, name in enumerate(
            ["train"] * 9 + ["validation"] * 9 + ["test"] * 9 + ["train", "validation"] + ["train"] * 10
        )
    }
    division = divide(contents, ["a", "b", "c"], Split())
    for position, kept in division.removed.items():
        assert contents[position].digest == contents[kept].digest
    held = [contents[position].digest for positions in division.splits.values() for position in positions]
    by_split = {name: {contents[p].digest for p in positions} for name, positions in division.splits.items()}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["validation"]
    assert not by_split["validation"] & by_split["test"]
    assert len(set(held)) == 27

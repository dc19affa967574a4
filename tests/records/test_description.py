"""Records in words: one description for the card of `prepare` and for the report."""

import jinja2
import pytest

from optduel.components.records import (
    DESCRIPTION_TEMPLATES,
    Duplicates,
    Manifest,
    Records,
    RecordsSplit,
    Resemblance,
    Resemblances,
    Skipped,
    data_cautions,
    describe,
    name_cautions,
)


@pytest.fixture
def manifest(records: Records) -> Manifest:
    return records.manifest


def described(manifest: Manifest, **fields: object) -> list[str]:
    return describe(Records(location="/data", manifest=manifest.model_copy(update=fields))).remarks


def test_counts_are_those_of_the_manifest(records: Records) -> None:
    found = describe(records)
    assert found.splits == list(records.manifest.splits)
    columns = zip(*(split.class_counts for split in records.manifest.splits.values()), strict=True)
    assert [total for _, _, total in found.counts] == [sum(column) for column in columns]
    assert sum(found.totals) == sum(split.records for split in records.manifest.splits.values())
    assert dict(found.facts)["place"] == records.location


def test_what_is_well_is_said_too(manifest: Manifest) -> None:
    whole = described(manifest, duplicates=Duplicates(groups=0, images=0, conflicting=()), skipped=())
    assert whole == ["No two images are the same.", "Every image of the source is in the records."]


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 image was"), (20, "20 images were"), (21, "21 images were")]
)
def test_omissions_are_counted_and_the_first_listed(manifest: Manifest, count: int, words: str) -> None:
    skipped = tuple(Skipped(image=f"{index}.jpg", reason="truncated") for index in range(count))
    remark = described(manifest, skipped=skipped)[-1]
    assert remark == f"{words} left out{'; the first 20 are listed' if count > 20 else ''}."


def test_conflicting_labels_are_told_and_named(manifest: Manifest) -> None:
    duplicates = Duplicates(groups=1, images=2, conflicting=("a.png",))
    found = describe(
        Records(location="/data", manifest=manifest.model_copy(update={"duplicates": duplicates}))
    )
    assert "1 image has copies with another class, so that not all labels can be right." in found.remarks
    assert found.conflicting == ["a.png"]


def test_the_shared_part_of_the_pages_escapes_names(manifest: Manifest) -> None:
    hostile = manifest.model_copy(
        update={
            "classes": ("<b>", "{{ 7 * 7 }}"),
            "splits": {"train": RecordsSplit(records=3, class_counts=(1, 2), shards=())},
        }
    )
    loader = jinja2.FileSystemLoader(DESCRIPTION_TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    found = describe(Records(location="/data", manifest=hostile))
    page = environment.get_template("records.html").render(records=found)
    assert "<bdi>&lt;b&gt;</bdi>" in page
    assert "{{ 7 * 7 }}" in page


def test_cautions_come_of_names_labels_and_look_alikes(manifest: Manifest) -> None:
    pair = Resemblance(images=("a", "b"), splits=("train", "test"), classes=("cat", "cat"))
    odd = manifest.model_copy(
        update={
            "classes": ("cat", "Cat", "dog", "CAT"),
            "duplicates": Duplicates(groups=1, images=2, conflicting=("a.png", "b.png")),
            "resemblances": Resemblances(searched=True, pairs=3, across=1, conflicting=0, shown=(pair,)),
        }
    )
    assert data_cautions(odd) == [
        "Classes cat and Cat and CAT differ only by case: are they one?",
        "2 images have copies with another class, so that not all labels can be right.",
        "1 pair of images looks alike across splits, so that a split may know another's images; "
        "data.near_duplicates = move puts each into one split.",
    ]
    assert data_cautions(manifest.model_copy(update={"classes": ("cat", "dog")})) == []
    told = described(manifest, resemblances=odd.resemblances)
    assert "3 pairs look alike without being copies, 1 across splits, 0 across classes." in told


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("Straße", "STRASSE"), "case"),
        (("caf\u00e9", "cafe\u0301"), "the Unicode form of their letters"),
        (("ｃａｔ", "cat"), "the Unicode form of their letters"),
        (("Caf\u00e9", "cafe\u0301"), "case and the Unicode form of their letters"),
    ],
)
def test_names_that_look_alike_are_told_with_their_difference(names: tuple[str, ...], words: str) -> None:
    (caution,) = name_cautions(names)
    assert caution.endswith(f" differ only by {words}: are they one?")

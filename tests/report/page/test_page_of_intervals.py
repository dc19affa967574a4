"""The page on what a difference is worth: two intervals, what varies it, and what would show it."""

import dataclasses

import pytest

from tests.compare.conftest import compared


def test_both_intervals_are_drawn_and_taken_apart(study, report, parse_page) -> None:
    (pair,) = study.comparison.comparisons
    page = parse_page(report.html)
    lines = [attributes.get("class") for tag, attributes in page.elements if tag == "line"]
    assert lines.count("range") == lines.count("range beyond") == 1
    text = " ".join(text for _, text in page.texts)
    assert pair.sentence in text
    assert "on these test images" in pair.sentence
    assert "on images of this kind" in pair.sentence
    assert "the first look may spend 64 % of the error" in text
    assert "Satterthwaite" in text
    (table,) = [table for table in page.tables if table[0][1:4] == ["seed", "image", "rest"]]
    other = pair.other_images
    deviations = [
        100 * variance**0.5 for variance in (other.seed_variance, other.image_variance, other.rest_variance)
    ]
    assert table[1][0] == "adamw minus sgd-l2"
    assert [float(cell) for cell in table[1][1:4]] == pytest.approx(deviations, rel=6e-3)
    assert float(table[1][4]) == pytest.approx(other.degrees_of_freedom, abs=0.051)


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_shown_names_what_would_show_it(make_study, parse_page) -> None:
    study = make_study(gain=0.05, seeds=6)
    (pair,) = study.comparison.comparisons
    assert pair.answer == "not shown"
    assert pair.needed is not None
    page = parse_page(study.report().html)
    (table,) = [table for table in page.tables if table[0][-2:] == ["seeds needed", "images needed"]]
    needed = [pair.needed.seeds, pair.needed.examples]
    assert table[1][-2:] == ["–" if number is None else f"{number:,}" for number in needed]


@pytest.mark.usefixtures("undrawn")
def test_a_split_per_seed_is_told(study, parse_page) -> None:
    asked = study.experiment.study.model_copy(update={"vary_split": True})
    experiment = study.experiment.model_copy(update={"study": asked})
    comparison = compared(asked, ["sgd-l2", "adamw"], study.trials)
    other = comparison.comparisons[0].other_images
    assert (other.degrees_of_freedom, other.image_variance) == (len(asked.seeds) - 1, None)
    changed = dataclasses.replace(study, experiment=experiment, comparison=comparison)
    text = " ".join(text for _, text in parse_page(changed.report().html).texts)
    assert "corrected after Nadeau and Bengio" in text
    assert "Satterthwaite" not in text

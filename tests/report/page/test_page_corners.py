"""Pages of studies at the edge of what is allowed, and of what is not."""

import re

import pytest

from optduel.components.core import DataError
from optduel.components.records import Skipped
from optduel.components.report.render import Report
from tests.compare.conftest import compared

TWO = ("cat", "dog")

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</style><script>alert(2)</script>",
    '" onload="alert(3)',
    "{{ 7 * 7 }}",
    "$\\frac{1}{$",
    "日本語 🌼",
)


def test_names_are_text_whatever_they_hold(make_study, parse_page) -> None:
    skipped = (Skipped(image="<b>.jpg", reason="truncated <i>"),)
    study = make_study(classes=HOSTILE, seeds=2, epochs=2, skipped=skipped, conflicting=("<u>.png",))
    study = study.with_experiment(title="</title><script>alert(4)</script> & more")
    report = study.report()
    page = parse_page(report.html)
    page.assert_is_self_contained()
    page.assert_images_are_drawings_with_alternatives()
    assert [row[0] for row in page.table("train")[1:-1]] == list(HOSTILE)
    assert [row[0] for row in page.table("precision")[1::2]] == list(HOSTILE)
    assert ["<b>.jpg", "truncated <i>"] in page.table("why")
    assert "<u>.png" in page.text
    assert study.experiment.title in page.text
    assert "\\<script\\>alert(4)" in report.summary


SGD = {"optimizer": "sgd", "l2": 0.0005, "learning_rate": {"schedule": "constant", "base": 0.05}}
SCHEDULES = (
    {"schedule": "constant", "base": 0.1},
    {"schedule": "cosine", "base": 0.1, "final_fraction": 0.1},
    {"schedule": "exponential", "base": 0.1, "factor_per_epoch": 0.5},
    {"schedule": "step", "base": 0.1, "boundaries_epochs": [1, 2], "factor": 0.1, "warmup_epochs": 0.5},
)
OPTIMIZERS = (
    {"optimizer": "sgd", "nesterov": True, "l2": 0},
    {"optimizer": "sgdw", "weight_decay": 0.01},
    {"optimizer": "adam", "l2": 0.001},
    {"optimizer": "adamw", "weight_decay": 0.1},
)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"seeds": 1, "epochs": 1, "classes": TWO}, id="one seed, one epoch"),
        pytest.param({"seeds": 2, "epochs": 1, "classes": ("only",)}, id="one class"),
        pytest.param(
            {
                "arms": tuple(
                    {**OPTIMIZERS[i % 4], "learning_rate": SCHEDULES[i // 3], "name": f"arm-{i}"}
                    for i in range(12)
                ),
                "seeds": 2,
                "epochs": 3,
                "classes": TWO,
                "examples": 60,
            },
            id="twelve arms of every kind",
        ),
        pytest.param(
            {"seeds": 1, "epochs": 1, "classes": tuple(f"class {i}" for i in range(100)), "examples": 150},
            id="a hundred classes",
        ),
        pytest.param(
            {"seeds": 2, "epochs": 1, "classes": ("a", "b", "c"), "examples": 2}, id="class without images"
        ),
        pytest.param(
            {
                "seeds": 1,
                "epochs": 2,
                "classes": TWO,
                "split": "validation",
                "arms": ({**SGD, "name": "a" * 40}, {**SGD, "name": "b" * 40}),
            },
            id="long names, no test split",
        ),
    ],
)
def test_page_renders_in_the_corners(make_study, options: dict, parse_page) -> None:
    study = make_study(**options)
    report = study.report()
    page = parse_page(report.html)
    page.assert_is_self_contained()
    page.assert_images_are_drawings_with_alternatives()
    arms, classes = len(study.experiment.arms), len(study.records.manifest.classes)
    assert len(page.table("precision")) == 1 + arms * classes
    assert len(page.table("replicas")) == 1 + arms * len(study.experiment.study.seeds)
    assert len([attributes for attributes in page.all("svg") if attributes["class"] == "strip"]) == arms - 1
    assert "nan" not in re.findall(r"[a-z]+", page.text)
    assert {f"confusion-{arm.name}.png" for arm in study.experiment.arms} <= report.figures.keys()


@pytest.mark.usefixtures("undrawn")
def test_arms_that_are_alike_say_so_without_needless_caution(make_study, parse_page) -> None:
    twin = {**SGD, "name": "adamw"}
    study = make_study(arms=({**SGD, "name": "sgd-l2"}, twin), epochs=1, classes=TWO, examples=4000)
    copies = tuple(
        trial.model_copy(
            update={
                "training": trial.training.model_copy(update={"arm": "adamw"}),
                "evaluation": trial.evaluation.model_copy(update={"arm": "adamw"}),
            }
        )
        for trial in study.trials.of("sgd-l2")
    )
    trials = study.trials.model_copy(update={"trials": (*study.trials.of("sgd-l2"), *copies)})
    comparison = compared(study.experiment.study, ["sgd-l2", "adamw"], trials)
    page = parse_page(type(study)(study.experiment, study.records, trials, comparison).report().html)
    assert "No difference: adamw and sgd-l2 have exactly the same test accuracy" in page.text
    assert "Before you believe it" not in page.text
    assert "verdict no-difference" in [section.get("class") for section in page.all("section")]


def test_parts_of_different_studies_are_refused(study, make_study) -> None:
    fewer = make_study(seeds=5, epochs=1)
    with pytest.raises(DataError, match="trials = .*must be those of the experiment"):
        type(study)(study.experiment, study.records, fewer.trials, study.comparison).report()
    renamed = tuple(arm.model_copy(update={"arm": "x"}) for arm in study.comparison.arms)
    other = study.comparison.model_copy(update={"arms": renamed})
    with pytest.raises(DataError, match=r"comparison\.arms: must be those of the experiment, sgd-l2, adamw"):
        type(study)(study.experiment, study.records, study.trials, other).report()
    manifest = study.records.manifest.model_copy(update={"fingerprint": "e" * 64})
    records = study.records.model_copy(update={"manifest": manifest})
    with pytest.raises(DataError, match="trial sgd-l2, seed 0: was trained on other records"):
        type(study)(study.experiment, records, study.trials, study.comparison).report()


def test_summary_has_the_verdict_and_the_main_table(study, report: Report) -> None:
    arm = study.comparison.arms[0]
    assert report.summary.startswith("# SGD + L2 against AdamW on handwritten digits\n")
    assert f"**{study.comparison.comparisons[0].sentence}**" in report.summary
    # Kubeflow's page puts no room between columns.
    assert "| metric | &nbsp;&nbsp;sgd-l2 | &nbsp;&nbsp;adamw |" in report.summary
    assert (
        f"| &nbsp;&nbsp;{100 * arm.median_accuracy:.2f} % ({100 * min(arm.accuracy):.2f} % to "
        in report.summary
    )

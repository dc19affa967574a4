import base64
import html.parser
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import pytest

from components.compare.compare import compare_arms
from components.core.authoring import parse_experiment
from components.core.errors import DataError
from components.core.records import Skipped
from components.report.render import Report

VOID = {"meta", "img", "br"}
TWO = ("cat", "dog")

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</style><script>alert(2)</script>",
    '" onload="alert(3)',
    "{{ 7 * 7 }}",
    "$\\frac{1}{$",
    "日本語 🌼",
)


@dataclass
class Page(html.parser.HTMLParser):
    """A page taken apart; refuses tags that are not closed in order."""

    html: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag != "style").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, heading: str) -> list[list[str]]:
        """The rows of the first table with such a cell in its first two rows."""
        return next(table for table in self.tables if heading in [cell for row in table[:2] for cell in row])


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(report.html)


def assert_is_self_contained(page: Page) -> None:
    assert page.html.startswith("<!DOCTYPE html>")
    (policy,) = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint(
        {"script", "link", "iframe", "object", "embed", "form", "base", "a", "foreignobject"}
    )
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if tag == "img" and name == "src":
                continue
            assert not re.search(r"(https?:)?//|javascript:|data:image", value or ""), (tag, name, value)
    styles = "".join(text for tag, text in page.texts if tag == "style")
    assert not re.search(r"@import|url\(|//", styles)
    assert len(styles) > 1000


def assert_images_are_drawings_with_alternatives(page: Page) -> None:
    images = page.all("img")
    assert len(images) >= 5
    for image in images:
        kind, _, content = (image["src"] or "").partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(image["alt"] or "") > 10
    for drawing in page.all("svg"):
        assert drawing["role"] == "img"
        assert drawing["aria-label"]


def test_page_loads_nothing_and_runs_nothing(page: Page) -> None:
    assert_is_self_contained(page)
    assert_images_are_drawings_with_alternatives(page)


def test_sections_stand_in_the_order_of_their_importance(page: Page, study) -> None:
    headings = [text for tag, text in page.texts if tag in ("h1", "h2")]
    assert headings == [
        study.experiment.title,
        "Before you believe it",
        "Learning curves",
        "The arms",
        "Final results",
        "Per class",
        "Records",
        "Environment and lineage",
        "How the verdict is reached",
        "The experiment",
    ]
    verdict = page.html.index(study.comparison.comparisons[0].sentence)
    assert verdict < page.html.index("Learning curves")


def test_verdict_has_a_dot_for_each_seed(page: Page, study) -> None:
    (pair,) = study.comparison.comparisons
    assert pair.answer == "shown"
    assert pair.sentence in page.text
    assert {"class": "verdict shown", "aria-label": "Verdict on adamw against sgd-l2"} in page.all("section")
    dots = [text for tag, text in page.texts if tag == "title"][1:]
    assert dots == [
        f"seed {seed}: {100 * difference:+.3g} points"
        for seed, difference in zip(pair.seeds, pair.differences, strict=True)
    ]


def test_cautions_and_decay_warnings_are_told_before_the_plots(make_study) -> None:
    constant = {"schedule": "constant", "base": 0.001}
    arms = (
        {"name": "sgd-l2", "optimizer": "sgd", "l2": 0.001, "learning_rate": constant},
        {"name": "adamw", "optimizer": "adamw", "weight_decay": 0.001, "learning_rate": constant},
    )
    study = make_study(arms=arms, seeds=1, epochs=2, classes=TWO, split="validation")
    page = Page(study.report().html)
    before, _, _ = page.text.partition("Learning curves")
    for caution in study.comparison.cautions:
        assert caution in before
    assert "adamw: its decay is practically zero." in before
    assert "adamw and sgd-l2 are not regularized alike" in before


def test_no_caution_without_a_reason(make_study) -> None:
    page = Page(make_study(seeds=6, epochs=1, classes=TWO, examples=4000).report().html)
    assert "Before you believe it" not in page.text


def test_arms_are_stated_in_every_convention(page: Page) -> None:
    rows = {row[0].strip(): row[1:] for row in page.table("optimizer")[1:]}
    assert rows["L2 coefficient, Keras × Σw² in the loss"] == ["0.0005", "–"]
    assert rows["L2 coefficient, PyTorch × w in the gradient"] == ["0.001", "–"]
    (weight_decay,) = (
        cells for name, cells in rows.items() if name.startswith("weight decay, Keras and PyTorch")
    )
    assert weight_decay == ["0.01", "0.2"]
    (paper,) = (cells for name, cells in rows.items() if name.startswith("λ of the AdamW paper"))
    assert paper == ["0.0005", "0.0004"]
    assert rows["stated as"] == ["l2", "weight_decay"]
    assert "0.05, cosine to 0; warm-up 1 epoch" in rows["learning rate"][0]
    lines = page.all("polyline")
    assert len(lines) == 2
    assert len((lines[0]["points"] or "").split()) == 60


def test_final_results_are_those_of_the_trials(page: Page, study) -> None:
    header, _, *rows = page.table("seed")
    assert header == ["seed", "sgd-l2", "adamw"]
    assert len(rows) == 6
    for seed, row in enumerate(rows):
        expected = [str(seed)]
        for arm in ("sgd-l2", "adamw"):
            evaluation = study.trials.of(arm)[seed].evaluation
            accuracy = evaluation.accuracy
            expected.append(
                f"{accuracy.value:.2%}{accuracy.low:.1%} to {accuracy.high:.1%}".replace("%", " %")
            )
            expected.append(f"{evaluation.cross_entropy.value:.4f}")
        assert row == expected
    metrics = {row[0]: row[1:] for row in page.table("accuracy higher is better")[1:]}
    arm = study.comparison.arms[1]
    assert metrics["accuracy higher is better"][1] == (
        f"{arm.median_accuracy:.2%}{min(arm.accuracy):.2%} to {max(arm.accuracy):.2%}".replace("%", " %")
    )


def test_classes_have_medians_over_the_seeds(page: Page, study) -> None:
    _, *rows = page.table("precision")
    assert len(rows) == 2 * 10
    name, images, arm, precision, recall, interval, f1, area = rows[0]
    entries = [trial.evaluation.classes[0] for trial in study.trials.of("sgd-l2")]

    def middle(values: list[float]) -> float:
        ordered = sorted(values)
        return (ordered[2] + ordered[3]) / 2

    assert (name, images, arm) == ("0", "36", "sgd-l2")
    assert precision == f"{100 * middle([entry.precision for entry in entries]):.1f} %"
    assert recall == f"{100 * middle([entry.recall.value for entry in entries]):.1f} %"
    assert interval.startswith(f"{100 * middle([entry.recall.low for entry in entries]):.1f} % to ")
    assert f1 == f"{middle([entry.f1 for entry in entries]):.3f}"
    assert area == f"{middle([entry.area_under_roc for entry in entries]):.3f}"


def test_the_confusion_that_stands_out_is_named_first(page: Page, study) -> None:
    _, first, *_ = page.table("taken for")
    count = sum(trial.evaluation.confusion[0][9] for trial in study.trials.of("sgd-l2"))
    assert first == ["sgd-l2", "0", "9", str(count), f"{count / (6 * 36):.1%}".replace("%", " %")]


def test_records_and_lineage_are_complete(page: Page, study) -> None:
    counts = page.table("train")
    assert counts[0] == ["class", "train", "validation", "test", "all", ""]
    assert counts[1] == ["0", "126", "18", "36", "180", ""]
    assert counts[-1] == ["all", "1,260", "180", "360", "1,800", ""]
    assert "5 images are exact copies of each other, in 2 groups" in page.text
    for fact in (
        study.experiment.fingerprint,
        study.records.manifest.fingerprint,
        study.records.manifest.source,
        "8 x 8 pixels, grey",
        "1f3a9c0d2b7e",
        "keras 3.15.1, kfp 2.17.0, numpy 2.4.6, tensorflow 2.21.0",
        "AMD EPYC 7B13, 2 cores usable",
    ):
        assert fact in page.text
    _, *trials = page.table("replicas")
    assert len(trials) == 12
    for row, trial in zip(trials, study.trials.trials, strict=True):
        training = trial.training
        assert row[0:2] == [training.arm, str(training.seed)]
        assert row[2] == f"2026-11-23 10:0{training.seed}:00 UTC"
        assert row[6:] == ["77,706", training.model_sha256]


def test_yaml_on_the_page_is_the_experiment(page: Page, study) -> None:
    (text,) = (text for tag, text in page.texts if tag == "pre")
    assert parse_experiment(text, "page") == study.experiment


def test_trials_of_two_machines_are_listed_apart(make_study) -> None:
    study = make_study(seeds=2, epochs=1, classes=TWO)
    first, *rest = study.trials.trials
    elsewhere = first.training.environment.model_copy(update={"processor": "another one"})
    moved = first.model_copy(
        update={"training": first.training.model_copy(update={"environment": elsewhere})}
    )
    trials = study.trials.model_copy(update={"trials": (moved, *rest)})
    page = Page(type(study)(study.experiment, study.records, trials, study.comparison).report().html)
    headings = [text for tag, text in page.texts if tag == "h3"]
    assert headings[-2:] == ["sgd-l2 seed 0", "sgd-l2 seed 1, adamw seed 0, adamw seed 1"]


def test_names_are_text_whatever_they_hold(make_study) -> None:
    skipped = (Skipped(image="<b>.jpg", reason="truncated <i>"),)
    study = make_study(classes=HOSTILE, seeds=2, epochs=2, skipped=skipped, conflicting=("<u>.png",))
    study = study.with_experiment(title="</title><script>alert(4)</script> & more")
    report = study.report()
    page = Page(report.html)
    assert_is_self_contained(page)
    assert_images_are_drawings_with_alternatives(page)
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
            {"seeds": 2, "epochs": 1, "classes": tuple("abcdef"), "examples": 4}, id="class without images"
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
def test_page_renders_in_the_corners(make_study, options: dict) -> None:
    study = make_study(**options)
    report = study.report()
    page = Page(report.html)
    assert_is_self_contained(page)
    assert_images_are_drawings_with_alternatives(page)
    arms, classes = len(study.experiment.arms), len(study.records.manifest.classes)
    assert len(page.table("precision")) == 1 + arms * classes
    assert len(page.table("replicas")) == 1 + arms * len(study.experiment.study.seeds)
    assert len([attributes for attributes in page.all("svg") if attributes["class"] == "strip"]) == arms - 1
    assert "nan" not in re.findall(r"[a-z]+", page.text)
    assert {f"confusion-{arm.name}.png" for arm in study.experiment.arms} <= report.figures.keys()


def test_arms_that_are_alike_say_so(make_study) -> None:
    study = make_study(seeds=6, epochs=1, classes=TWO)
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
    comparison = compare_arms(study.experiment.study, ["sgd-l2", "adamw"], trials)
    page = Page(type(study)(study.experiment, study.records, trials, comparison).report().html)
    assert "No difference: adamw and sgd-l2 have exactly the same test accuracy" in page.text
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
    assert "| metric | sgd-l2 | adamw |" in report.summary
    assert f"| {100 * arm.median_accuracy:.2f} % ({100 * min(arm.accuracy):.2f} % to " in report.summary
